//! The API's document, made of its table of routes: OpenAPI 3.1.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema as _, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::refused::Refused;
use super::routes::{NAMES, Parameter, Row};
use super::shapes::Error;

/// Where it is.
pub(super) const PATH: &str = "/api/v1/openapi.json";

/// Reasons that every route may have not to do it.
const COMMON: &[Refused] = &[
    Refused::BAD_REQUEST,
    Refused::UNAUTHORIZED,
    Refused::TOO_SLOW,
    Refused::TOO_LARGE,
    Refused::INTERNAL,
    Refused::BUSY,
    Refused::NOT_READY,
    Refused::STORAGE_FAILED,
];

/// The whole document.
pub(super) fn document(rows: &[Row]) -> Value {
    let mut answers = generator(SchemaSettings::draft2020_12().for_serialize());
    let mut bodies = generator(SchemaSettings::draft2020_12().for_deserialize());
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for row in rows {
        let operation = operation(row, &mut answers, &mut bodies);
        paths.entry(row.path).or_default().insert(row.method.as_str().to_ascii_lowercase(), operation);
    }
    let mut error = Error::json_schema(&mut answers).to_value();
    error["properties"]["code"]["enum"] = Refused::ALL.iter().map(|refused| refused.code).collect();
    let mut schemas = answers.take_definitions(true);
    schemas.append(&mut bodies.take_definitions(true));
    schemas.insert(Error::schema_name().into_owned(), error);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The server API of a Hongyan relay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "For the app's own servers. Times are milliseconds since 1970 (UTC). Fields may be added \
                            at any time; pass over those that you do not know.",
        },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A secret of the relay's `api.keys`, without the key id.",
                },
            },
            "schemas": schemas,
        },
    })
}

fn generator(settings: SchemaSettings) -> SchemaGenerator {
    settings
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator()
}

fn operation(row: &Row, answers: &mut SchemaGenerator, bodies: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = NAMES
        .iter()
        .filter(|(name, _)| row.path.contains(&format!("{{{name}}}")))
        .map(|(name, doc)| {
            json!({ "name": name, "in": "path", "required": true, "description": doc,
                    "schema": { "type": "string" } })
        })
        .collect();
    parameters.extend(row.query.iter().map(|Parameter { name, doc, is_needed, count_max }| {
        let schema = match count_max {
            1 => json!({ "type": "string" }),
            _ => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": count_max }),
        };
        json!({ "name": name, "in": "query", "required": is_needed, "description": doc, "style": "form",
                "explode": true, "schema": schema })
    }));
    let mut responses = Map::new();
    let answer = json!({ "schema": (row.answer)(answers) });
    responses.insert(
        "200".into(),
        json!({ "description": "It is done.", "content": { "application/json": answer } }),
    );
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for refused in COMMON.iter().chain(row.refusals) {
        let line = format!("`{}`: {}", refused.code, refused.message);
        by_status.entry(refused.status).or_default().push(line);
    }
    for (status, lines) in by_status {
        let error = json!({ "schema": { "$ref": "#/components/schemas/Error" } });
        let response = json!({ "description": lines.join(" "), "content": { "application/json": error } });
        responses.insert(status.to_string(), response);
    }
    let mut operation = json!({
        "operationId": operation_id(row),
        "summary": row.summary,
        "description": row.details,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = row.body {
        let body = json!({ "schema": body(bodies) });
        operation["requestBody"] =
            json!({ "required": row.needs_body, "content": { "application/json": body } });
    }
    operation
}

/// As in `delete-users-devices`: the method and the words of the path.
fn operation_id(row: &Row) -> String {
    let words = row.path.split('/').skip(3).filter(|word| !word.starts_with('{'));
    let mut id = row.method.as_str().to_ascii_lowercase();
    for word in words {
        id.push('-');
        id.push_str(word);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::super::routes::table;
    use super::*;

    /// All `$ref`s in a value.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    match value {
                        Value::String(to) if name == "$ref" => found.push(to.clone()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_is_whole() {
        let rows = table();
        let document = document(&rows);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} points nowhere");
        }
        let mut ids = Vec::new();
        for row in &rows {
            assert!(!row.summary.is_empty() && !row.details.is_empty(), "{}", row.path);
            // Every name in the path is explained.
            let names = row.path.matches('{').count();
            let explained = NAMES.iter().filter(|(name, _)| row.path.contains(&format!("{{{name}}}")));
            assert_eq!(explained.count(), names, "{}", row.path);
            ids.push(operation_id(row));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), rows.len());
    }

    #[test]
    fn reasons_are_a_closed_list() {
        assert!(Refused::ALL.is_sorted_by_key(|refused| refused.status));
        let mut codes: Vec<_> = Refused::ALL.iter().map(|refused| refused.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Refused::ALL.len());
    }
}
