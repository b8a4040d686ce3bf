//! Package relations (`Depends`, `Conflicts`, `Breaks`), as far as an installed system answers them.

use std::cmp::Ordering;

use super::database::{Installed, StatusDb};
use super::version::compare;

/// One alternative such as `libc6 (>= 2.31)`.
#[derive(Debug, PartialEq, Eq)]
struct Relation<'a> {
    name: &'a str,
    bound: Option<(&'a str, &'a str)>,
}

/// The first comma-separated group of a `Depends` value that nothing installed satisfies.
pub fn first_unmet<'a>(depends: &'a str, db: &StatusDb<'_>) -> Option<&'a str> {
    let groups = depends
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty());
    groups
        .into_iter()
        .find(|group| !group.split('|').any(|text| satisfied(&parse(text), db)))
}

/// The first relation of a `Conflicts` or `Breaks` value that an installed package other than `own` meets.
pub fn first_met<'a>(conflicts: &'a str, own: &str, db: &StatusDb<'_>) -> Option<&'a str> {
    let relations = conflicts
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty());
    relations.into_iter().find(|text| {
        let relation = parse(text);
        relation.name != own && satisfied(&relation, db)
    })
}

fn parse(text: &str) -> Relation<'_> {
    let text = text.split('[').next().unwrap_or(text).trim();
    let (name, bound) = match text.split_once('(') {
        Some((name, bound)) => (name, Some(bound.trim_end().trim_end_matches(')'))),
        None => (text, None),
    };
    let bound = bound.map(|bound| {
        let bound = bound.trim();
        let end = bound
            .find(|sign: char| !matches!(sign, '<' | '>' | '='))
            .unwrap_or(bound.len());
        (&bound[..end], bound[end..].trim())
    });
    let name = name.trim();
    Relation {
        name: name.split(':').next().unwrap_or(name),
        bound,
    }
}

fn satisfied(relation: &Relation<'_>, db: &StatusDb<'_>) -> bool {
    db.installed().any(|package| {
        if package.name == relation.name {
            return relation.bound.is_none_or(|bound| within(package.version, bound));
        }
        provides(&package, relation)
    })
}

fn provides(package: &Installed<'_>, relation: &Relation<'_>) -> bool {
    let provided = package
        .provides
        .split(',')
        .map(parse)
        .find(|provided| provided.name == relation.name);
    match (provided, relation.bound) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(provided), Some(bound)) => provided.bound.is_some_and(|(_, version)| within(version, bound)),
    }
}

fn within(version: &str, (operator, wanted): (&str, &str)) -> bool {
    let order = compare(version, wanted);
    match operator {
        "<<" => order == Ordering::Less,
        // A lone `<` or `>` has always meant "or equal".
        "<=" | "<" => order != Ordering::Greater,
        "=" => order == Ordering::Equal,
        ">=" | ">" => order != Ordering::Less,
        ">>" => order == Ordering::Greater,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\nProvides: libc (= 6)\n\n\
        Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n";

    #[test]
    fn knows_what_is_met() {
        let db = StatusDb::parse(STATUS.as_bytes()).expect("valid");
        for met in [
            "libc6",
            "libc6 (>= 2.31), libc",
            "nothing | libc6:any",
            "libc (>= 5)",
            "libc6 (<< 3) [amd64]",
        ] {
            assert_eq!(first_unmet(met, &db), None, "{met}");
        }
        for unmet in ["gone", "libc6 (>> 2.36-9)", "libc (>= 7)", "nothing"] {
            assert_eq!(first_unmet(unmet, &db), Some(unmet), "{unmet}");
        }
        assert_eq!(first_met("a, libc6", "amazon-ssm-agent", &db), Some("libc6"));
        assert_eq!(first_met("libc6", "libc6", &db), None);
    }
}
