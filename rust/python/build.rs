//! Reads the texts of classes and methods from the stub `_native.pyi`, which has them for editors, so that `help()`
//! shows the same ones: `#[doc = text!("Call.cancel")]` is the docstring of that method.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

const STUB: &str = "../../python/turnout/_native.pyi";

fn main() {
    println!("cargo:rerun-if-changed={STUB}");
    let texts = texts(&fs::read_to_string(STUB).expect("the stub is part of the source"));
    assert!(texts.len() > 100, "the stub has fewer texts than it had: {}", texts.len());
    let mut rules = String::from("macro_rules! text {\n");
    for (name, text) in texts {
        writeln!(rules, "    ({name:?}) => {{ {text:?} }};").expect("a string takes any text");
    }
    rules.push_str("}\n");
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("texts.rs"), rules).expect("cargo's own directory can be written to");
}

/// The docstrings of a stub, by the names `function`, `Class` and `Class.member`.
fn texts(stub: &str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let (mut class, mut name) = (String::new(), None);
    let mut lines = stub.lines();
    while let Some(line) = lines.next() {
        if let Some(declared) = declared(line) {
            match line.as_bytes()[0] {
                b' ' => name = Some(format!("{class}.{declared}")),
                b'c' => {
                    declared.clone_into(&mut class);
                    name = Some(class.clone());
                }
                _ => name = Some(declared.to_owned()),
            }
        }
        if line.ends_with(": ...") {
            name = None;
        }
        if let Some(first) = line.trim_start().strip_prefix("\"\"\"") {
            let text = docstring(first, &mut lines);
            if let Some(name) = name.take() {
                assert!(texts.insert(name.clone(), text).is_none(), "{name} has two texts");
            }
        }
    }
    texts
}

/// The name that a line declares: of a class, of a function, of a method.
fn declared(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("class ").or_else(|| line.strip_prefix("def "));
    let rest = rest.or_else(|| line.strip_prefix("    def "))?;
    rest.split(|character: char| !character.is_alphanumeric() && character != '_').next()
}

/// A docstring whose opening line goes on with `first`, without its indentation.
fn docstring<'a>(first: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut found = vec![first];
    while !found.last().is_some_and(|line| line.ends_with("\"\"\"")) {
        found.push(lines.next().expect("a docstring ends"));
    }
    let indent = found[1..].iter().filter(|line| !line.trim().is_empty());
    let indent = indent.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let (first, rest) = found.split_first().expect("there is a first line");
    let rest = rest.iter().map(|line| line.get(indent..).unwrap_or(""));
    let text: Vec<_> = std::iter::once(*first).chain(rest).collect();
    text.join("\n").trim_end_matches("\"\"\"").trim_end().to_owned()
}
