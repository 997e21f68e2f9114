//! A macro for enums whose variants have names in the log and in reports.

macro_rules! names {
    ($(#[doc = $type_doc:literal])+ $type:ident { $($(#[doc = $doc:literal])+ $variant:ident $name:literal;)+ }) => {
        $(#[doc = $type_doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[doc = $doc])+ $variant),+ }

        impl $type {
            /// All variants, in the order of their declaration.
            pub const ALL: &[$type] = &[$($type::$variant),+];

            /// Returns the name in reports and in the log, which is part of the report's schema and never changes.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            /// Returns the variant with this name; `None` for a name of a later version.
            pub fn from_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

pub(crate) use names;
