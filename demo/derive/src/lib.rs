//! `#[derive(Columns)]`: the names of a struct's fields as column titles of a table.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, parse_macro_input};

/// Implements `tally::Columns` for a struct with named fields.
#[proc_macro_derive(Columns)]
pub fn columns(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<proc_macro2::TokenStream, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "only a struct has columns"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(&input.ident, "columns have names, so the fields need them too"));
    };
    let names = fields.named.iter().filter_map(|field| Some(field.ident.as_ref()?.to_string()));
    let ident = &input.ident;
    let (head, types, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #head crate::Columns for #ident #types #bounds {
            const COLUMNS: &'static [&'static str] = &[#(#names),*];
        }
    })
}
