//! JavaScript and TypeScript import along the arrows: the demo sees the published package only.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tree::{files, read};

#[test]
fn the_demo_imports_the_published_package_and_its_own_files_only() {
    let allowed = packages("web-demo/package.json");
    assert!(allowed.contains("hongyan"), "the demo does not name hongyan in its package.json");
    let ours: Vec<&String> = allowed.iter().filter(|name| name.starts_with("hongyan")).collect();
    assert_eq!(ours, ["hongyan"], "of ours the demo may name only hongyan");
    let mut sees_the_package = false;
    for file in files("web-demo", &[".ts", ".vue", ".mjs", ".js"]) {
        for import in imports(&read(&file)) {
            sees_the_package |= import == "hongyan";
            assert!(is_allowed("web-demo", &file, &import, &allowed), "{file} imports {import}");
        }
    }
    assert!(sees_the_package, "no file of the demo imports hongyan: the scan is blind");
}

#[test]
fn the_typescript_layer_imports_nothing_but_itself() {
    for file in files("sdk-wasm/js", &[".ts"]) {
        for import in imports(&read(&file)) {
            assert!(is_allowed("sdk-wasm/js", &file, &import, &BTreeSet::new()), "{file} imports {import}");
        }
    }
}

#[test]
fn a_forbidden_import_is_noticed() {
    let allowed = BTreeSet::from(["vue".to_owned(), "@scope/name".to_owned()]);
    let check = |source: &str| {
        let found = imports(source);
        assert_eq!(found.len(), 1, "{source}");
        is_allowed("web-demo", "web-demo/src/pages/list.ts", &found[0], &allowed)
    };
    assert!(check("import { ref } from 'vue'"));
    assert!(check("import type { Ref } from \"vue\";"));
    assert!(check("import x from '@scope/name/deep'"));
    assert!(check("import '../style.css'"));
    assert!(check("const late = await import('./late.ts')"));
    assert!(check("import {\n  a,\n  b,\n} from './several-lines'"));
    assert!(check("export * from 'node:path'"));
    assert!(!check("import x from 'lodash'"));
    assert!(!check("export * from '../../../sdk-wasm/js/index.ts'"));
    assert!(!check("import init from '../../../sdk-wasm/pkg/wasm/hongyan.js'"));
    assert!(!check("import('/sdk-wasm/pkg/index.js')"));
    assert!(!check("import x from '@scope/other'"));
}

/// The packages that a manifest names.
fn packages(manifest: &str) -> BTreeSet<String> {
    let manifest: Value = serde_json::from_str(&read(manifest)).unwrap();
    ["dependencies", "devDependencies"]
        .iter()
        .filter_map(|list| manifest[*list].as_object())
        .flat_map(|list| list.keys().cloned())
        .collect()
}

/// What a source imports: the string after `from`, `import` or `import(`.
fn imports(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, brackets) in [("from", false), ("import", true)] {
        for (at, _) in source.match_indices(keyword) {
            let before = source[..at].chars().next_back();
            if before
                .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '-' | '/' | '\'' | '"'))
            {
                continue;
            }
            let mut rest = source[at + keyword.len()..].trim_start();
            if brackets {
                rest = rest.strip_prefix('(').unwrap_or(rest).trim_start();
            }
            let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else { continue };
            if let Some((name, _)) = rest[1..].split_once(quote)
                && !name.contains('\n')
            {
                found.push(name.to_owned());
            }
        }
    }
    found
}

/// A relative import must stay inside `folder`; any other must be of a package on the list, or Node's own.
fn is_allowed(folder: &str, file: &str, import: &str, packages: &BTreeSet<String>) -> bool {
    if import.starts_with('.') {
        let mut parts: Vec<&str> = file.split('/').collect();
        parts.pop();
        for part in import.split('/') {
            match part {
                "." => {}
                ".." => {
                    if parts.pop().is_none() {
                        return false;
                    }
                }
                name => parts.push(name),
            }
        }
        return parts.join("/").starts_with(&format!("{folder}/"));
    }
    if import.starts_with("node:") {
        return true;
    }
    let depth = if import.starts_with('@') { 2 } else { 1 };
    packages.contains(&import.split('/').take(depth).collect::<Vec<_>>().join("/"))
}
