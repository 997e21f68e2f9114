//! Validates the part of JSON Schema that the report's schema uses. An unknown keyword and a property that is not
//! described are errors, so that no part of the schema is without effect.

use serde_json::{Map, Value};

/// Keywords that do not restrict values.
const WORDS: &[&str] = &["$schema", "$defs", "title", "description"];

pub(crate) struct Schema {
    root: Value,
}

impl Schema {
    pub(crate) fn new(root: Value) -> Schema {
        Schema { root }
    }

    pub(crate) fn complaints(&self, value: &Value) -> Vec<String> {
        let mut complaints = Vec::new();
        self.check(&self.root, value, "$", &mut complaints);
        complaints
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, complaints: &mut Vec<String>) {
        for (keyword, rule) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "$ref" => {
                    let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    self.check(self.root.pointer(target).unwrap(), value, at, complaints);
                    true
                }
                "type" => types(rule).iter().any(|name| is_of(value, name)),
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
                "required" => rule.as_array().unwrap().iter().all(|name| {
                    value.as_object().is_none_or(|object| object.contains_key(name.as_str().unwrap()))
                }),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}[{index}]"), complaints);
                    }
                    true
                }
                "properties" => {
                    self.check_properties(schema, rule.as_object().unwrap(), value, at, complaints);
                    true
                }
                "additionalProperties" => true,
                word => WORDS.contains(&word),
            };
            if !holds {
                complaints.push(format!("{at}: `{keyword}` does not hold"));
            }
        }
    }

    fn check_properties(
        &self,
        schema: &Value,
        properties: &Map<String, Value>,
        value: &Value,
        at: &str,
        complaints: &mut Vec<String>,
    ) {
        for (name, inner) in value.as_object().into_iter().flatten() {
            match properties.get(name).or_else(|| schema.get("additionalProperties")) {
                Some(rule) => self.check(rule, inner, &format!("{at}.{name}"), complaints),
                None => complaints.push(format!("{at}.{name} is not described")),
            }
        }
    }
}

fn types(rule: &Value) -> Vec<&str> {
    match rule {
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
        name => vec![name.as_str().unwrap()],
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        other => panic!("the schema names a type `{other}`"),
    }
}
