//! A derive that says what a struct is made of.

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, Fields, parse_macro_input};

/// Adds `DESCRIPTION`, the names of the fields.
#[proc_macro_derive(Describe)]
pub fn describe(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let fields = match &input.data {
        syn::Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => fields
                .named
                .iter()
                .filter_map(|field| field.ident.as_ref())
                .map(ToString::to_string)
                .collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let (name, text) = (&input.ident, format!("{} of {}", input.ident, fields.join(", ")));
    quote! { impl #name { pub const DESCRIPTION: &str = #text; } }.into()
}
