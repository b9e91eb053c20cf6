//! What the files of a crate import, read from its sources: `use` lines, re-exports, and paths that are written out.
//!
//! Tests and what macros are given are left out: the former may look at anything, the latter name what was imported.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// A crate's sources, by file names from the repository on.
pub(crate) struct Crate {
    /// As it is imported.
    pub(crate) name: &'static str,
    /// Where its sources are.
    pub(crate) folder: String,
    /// The files of the crate that each file imports.
    pub(crate) files: BTreeMap<String, BTreeSet<String>>,
    /// The other crates of ours that each file imports.
    pub(crate) crates: BTreeMap<String, BTreeSet<String>>,
    /// Whatever each file names, of the crate itself from its name on.
    pub(crate) paths: BTreeMap<String, BTreeSet<String>>,
}

impl Crate {
    pub(crate) fn read(repository: &Path, name: &'static str, folder: &str) -> Self {
        let mut modules = BTreeMap::new();
        find(&repository.join(folder), &mut Vec::new(), &mut modules);
        let file = |module: &[String]| match module {
            [] => format!("{folder}/lib.rs"),
            module => format!("{folder}/{}.rs", module.join("/")),
        };
        let (mut files, mut crates, mut paths) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (module, text) in &modules {
            let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", file(module)));
            // `main` is a crate of its own, which imports the library by its name.
            let own = if module == &["main"] { &[][..] } else { module };
            let mut seen = Seen { module: own.to_vec(), name, modules: &modules, paths: BTreeSet::new() };
            seen.visit_file(&parsed);
            let ours = |path: &Vec<String>| path[0] == name;
            let longest = |path: &Vec<String>| {
                let inner = &path[1..];
                (0..=inner.len())
                    .rev()
                    .map(|length| inner[..length].to_vec())
                    .find(|prefix| prefix.is_empty() || modules.contains_key(prefix))
            };
            let imported =
                seen.paths.iter().filter(|path| ours(path)).filter_map(longest).filter(|other| other != module);
            files.insert(file(module), imported.map(|other| file(&other)).collect());
            let others = seen
                .paths
                .iter()
                .map(|path| path[0].clone())
                .filter(|other| other.starts_with("podwire") && other != name);
            crates.insert(file(module), others.collect());
            paths.insert(file(module), seen.paths.iter().map(|path| path.join("::")).collect());
        }
        Self { name, folder: folder.into(), files, crates, paths }
    }
}

/// The modules below a folder that are not tests, each with its text; the library itself is the one without a name.
fn find(folder: &Path, above: &mut Vec<String>, modules: &mut BTreeMap<Vec<String>, String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Files of tests only: tests.rs and tests/, and those that hold properties.
        if name == "tests" || name == "properties" {
            continue;
        }
        let is_library = above.is_empty() && name == "lib";
        above.push(name);
        if path.is_dir() {
            find(&path, above, modules);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if is_library { Vec::new() } else { above.clone() };
            modules.insert(module, fs::read_to_string(&path).unwrap());
        }
        above.pop();
    }
}

/// What is named in one file.
struct Seen<'a> {
    module: Vec<String>,
    name: &'a str,
    modules: &'a BTreeMap<Vec<String>, String>,
    /// From the crate's name on.
    paths: BTreeSet<Vec<String>>,
}

impl Seen<'_> {
    /// Enters a path as it is written.
    fn enter(&mut self, written: &[String]) {
        let Some(first) = written.first() else { return };
        let mut path = vec![self.name.to_owned()];
        let rest = match first.as_str() {
            "crate" => &written[1..],
            "self" => {
                path.extend(self.module.iter().cloned());
                &written[1..]
            }
            "super" => {
                let up = written.iter().take_while(|name| *name == "super").count();
                path.extend(self.module.iter().take(self.module.len().saturating_sub(up)).cloned());
                &written[up..]
            }
            child => {
                let mut inner = self.module.clone();
                inner.push(child.into());
                if self.modules.contains_key(&inner) {
                    path.extend(self.module.iter().cloned());
                    written
                } else {
                    self.paths.insert(written.to_vec());
                    return;
                }
            }
        };
        path.extend(rest.iter().cloned());
        self.paths.insert(path);
    }

    fn enter_tree(&mut self, tree: &UseTree, above: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                above.push(path.ident.to_string());
                self.enter_tree(&path.tree, above);
                above.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.enter_tree(tree, above)),
            UseTree::Glob(_) => self.enter(above),
            UseTree::Name(name) => self.enter_leaf(&name.ident.to_string(), above),
            UseTree::Rename(rename) => self.enter_leaf(&rename.ident.to_string(), above),
        }
    }

    fn enter_leaf(&mut self, name: &str, above: &mut Vec<String>) {
        if name == "self" && !above.is_empty() {
            return self.enter(above);
        }
        above.push(name.into());
        self.enter(above);
        above.pop();
    }
}

impl<'a> Visit<'a> for Seen<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Mod(ItemMod { attrs, .. }) | Item::Use(ItemUse { attrs, .. }) => attrs,
            Item::Fn(function) => &function.attrs,
            Item::Impl(block) => &block.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !attributes.iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.enter_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.segments.len() > 1 {
            let written: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.enter(&written);
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}
}

fn is_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}
