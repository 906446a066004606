//! JSON Patch (RFC 6902): a list of operations, of which either all are done or none.

use serde::Deserialize;

use super::patch::{Bounds, PatchError};
use super::path::place_of;
use super::pointer::{Pointer, Token};
use super::text::{DEEPEST, Json, Kind};
use super::tree::Tree;

/// The most operations of a patch.
pub const MOST_OPERATIONS: usize = 1_000;
/// The bytes that the operations of one patch may read and move, all together: about a fifth of a
/// second. A part of the format: every replica must give up at the same place.
const MOST_WORK: usize = 512 << 20;
/// What moving one element of an array counts as.
const ELEMENT: usize = 32;

/// A patch that was understood.
#[derive(Debug)]
pub struct JsonPatch<'a> {
    operations: Vec<Operation<'a>>,
}

#[derive(Debug)]
enum Operation<'a> {
    Add { path: Pointer, value: Json<'a> },
    Remove { path: Pointer },
    Replace { path: Pointer, value: Json<'a> },
    Move { from: Pointer, path: Pointer },
    Copy { from: Pointer, path: Pointer },
    Test { path: Pointer, value: Json<'a> },
}

/// An operation as it is written. Members that it does not know are passed over, as the RFC has it.
#[derive(Deserialize)]
struct Written {
    op: String,
    path: String,
    from: Option<String>,
}

impl<'a> JsonPatch<'a> {
    /// Understands a patch; the error says which operation is wrong, counted from 0.
    pub fn parse(patch: &'a [u8]) -> Result<Self, String> {
        let json = Json::parse(patch).map_err(|error| format!("the patch is not JSON: {error}"))?;
        if json.kind() != Kind::Array {
            return Err("a JSON patch is an array of operations".to_owned());
        }
        let mut operations = Vec::new();
        for (at, operation) in json.elements().enumerate() {
            if at == MOST_OPERATIONS {
                return Err(format!("a JSON patch has at most {MOST_OPERATIONS} operations"));
            }
            operations
                .push(understood(operation).map_err(|why| format!("operation {at} of the patch: {why}"))?);
        }
        Ok(Self { operations })
    }

    /// The value that the operations make of another.
    pub fn apply(&self, value: Json<'a>, bounds: Bounds) -> Result<Vec<u8>, PatchError> {
        let changes = |operation: &Operation<'_>| !matches!(operation, Operation::Test { .. });
        let mut doing = Doing {
            root: Tree::Text(value),
            bytes: value.text().len(),
            work: 0,
            bounds,
            at: 0,
            what: String::new(),
        };
        for (at, operation) in self.operations.iter().enumerate() {
            doing.at = at;
            doing.what = operation.show();
            doing.run(operation)?;
        }
        // Tests open what they look into; if nothing else was done the value stays as it was.
        if !self.operations.iter().any(changes) {
            return Ok(value.text().as_bytes().to_vec());
        }
        bounds.written(&doing.root)
    }
}

fn understood(operation: Json<'_>) -> Result<Operation<'_>, String> {
    if operation.kind() != Kind::Object {
        return Err("an operation is an object".to_owned());
    }
    let written: Written = serde_json::from_str(operation.text()).map_err(|error| {
        // Line and column would count from the operation's own beginning.
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or_default().to_owned()
    })?;
    let path = Pointer::parse(&written.path).map_err(|why| format!("its path: {why}"))?;
    let from = || {
        let from = written.from.as_deref().ok_or("it has no `from`")?;
        Pointer::parse(from).map_err(|why| format!("its `from`: {why}"))
    };
    // A value of null is a value; the member must only be there.
    let value = || match operation.members().filter(|(name, _)| name.says("value")).last() {
        Some((_, value)) => Ok(value),
        None => Err("it has no `value`".to_owned()),
    };
    match written.op.as_str() {
        "add" => Ok(Operation::Add { path, value: value()? }),
        "remove" => Ok(Operation::Remove { path }),
        "replace" => Ok(Operation::Replace { path, value: value()? }),
        "move" => {
            let from = from()?;
            if from.is_before(&path) {
                return Err("a value cannot be moved into itself".to_owned());
            }
            Ok(Operation::Move { from, path })
        }
        "copy" => Ok(Operation::Copy { from: from()?, path }),
        "test" => Ok(Operation::Test { path, value: value()? }),
        other => Err(format!("there is no operation {other:?}: add, remove, replace, move, copy, test")),
    }
}

impl Operation<'_> {
    fn show(&self) -> String {
        match self {
            Self::Add { path, .. } => format!("add {path}"),
            Self::Remove { path } => format!("remove {path}"),
            Self::Replace { path, .. } => format!("replace {path}"),
            Self::Move { from, path } => format!("move {from} to {path}"),
            Self::Copy { from, path } => format!("copy {from} to {path}"),
            Self::Test { path, .. } => format!("test {path}"),
        }
    }
}

/// A patch that is being done.
struct Doing<'a> {
    root: Tree<'a>,
    /// About how long the value is; never less.
    bytes: usize,
    work: usize,
    bounds: Bounds,
    at: usize,
    what: String,
}

impl<'a> Doing<'a> {
    fn run(&mut self, operation: &Operation<'a>) -> Result<(), PatchError> {
        match operation {
            Operation::Add { path, value } => self.add(path, Tree::Text(*value)),
            Operation::Remove { path } => self.remove(path).map(drop),
            Operation::Replace { path, value } => {
                let value = Tree::Text(*value);
                self.grow(path, &value)?;
                let old = self.find(path)?;
                let gone = std::mem::replace(old, value).extent().bytes;
                self.bytes = self.bytes.saturating_sub(gone);
                Ok(())
            }
            Operation::Move { from, path } => {
                if from == path {
                    return self.find(from).map(drop);
                }
                let value = self.remove(from)?;
                self.add(path, value)
            }
            Operation::Copy { from, path } => {
                let found = self.find(from)?;
                let bytes = found.extent().bytes;
                let copied = found.clone();
                self.spend(bytes)?;
                self.add(path, copied)
            }
            Operation::Test { path, value } => {
                self.spend(value.text().len())?;
                let found = self.find(path)?;
                let (read, holds) = (found.bytes_to_open(), found.is(*value));
                self.spend(read)?;
                match holds {
                    true => Ok(()),
                    false => Err(PatchError::TestFailed { operation: self.at, path: path.to_string() }),
                }
            }
        }
    }

    fn add(&mut self, path: &Pointer, value: Tree<'a>) -> Result<(), PatchError> {
        self.grow(path, &value)?;
        let Some((last, parents)) = path.split_last() else {
            self.bytes = value.extent().bytes;
            self.root = value;
            return Ok(());
        };
        let missing = match self.follow(parents)? {
            Tree::Object(object) => {
                object.set(last.text(), value);
                return Ok(());
            }
            Tree::Array(elements) => match last.place_to_add(elements.len()) {
                Ok(place) => {
                    let moved = (elements.len() - place) * ELEMENT;
                    elements.insert(place, value);
                    return self.spend(moved);
                }
                Err(why) => why,
            },
            Tree::Text(_) => not_a_container(parents),
        };
        Err(self.missing(missing))
    }

    fn remove(&mut self, path: &Pointer) -> Result<Tree<'a>, PatchError> {
        let Some((last, parents)) = path.split_last() else {
            return Err(self.missing("the whole value cannot be removed: delete the key".to_owned()));
        };
        let (removed, moved) = match self.follow(parents)? {
            Tree::Object(object) => (object.remove(last.text()).ok_or_else(|| no_member(last)), 0),
            Tree::Array(elements) => {
                let place = last.place(elements.len());
                let moved = place.as_ref().map_or(0, |place| (elements.len() - place) * ELEMENT);
                (place.map(|place| elements.remove(place)), moved)
            }
            Tree::Text(_) => (Err(not_a_container(parents)), 0),
        };
        let removed = removed.map_err(|why| self.missing(why))?;
        let extent = removed.extent();
        self.spend(extent.bytes.saturating_add(moved))?;
        self.bytes = self.bytes.saturating_sub(extent.bytes);
        Ok(removed)
    }

    fn find(&mut self, path: &Pointer) -> Result<&mut Tree<'a>, PatchError> {
        let Some((last, parents)) = path.split_last() else { return Ok(&mut self.root) };
        let (at, what) = (self.at, self.what.clone());
        let missing = |why| PatchError::NoSuchPath { operation: at, what, why };
        match self.follow(parents)? {
            Tree::Object(object) => object.get_mut(last.text()).ok_or_else(|| missing(no_member(last))),
            Tree::Array(elements) => match last.place(elements.len()) {
                Ok(place) => elements.get_mut(place).ok_or_else(|| missing(no_member(last))),
                Err(why) => Err(missing(why)),
            },
            Tree::Text(_) => Err(missing(not_a_container(parents))),
        }
    }

    /// The value that those steps lead to, and all on the way, opened.
    fn follow(&mut self, steps: &[Token]) -> Result<&mut Tree<'a>, PatchError> {
        let missing = |why| PatchError::NoSuchPath { operation: self.at, what: self.what.clone(), why };
        let (mut tree, mut work) = (&mut self.root, self.work);
        let mut left = Some(steps);
        while let Some(steps) = left {
            work = work.saturating_add(tree.bytes_to_open());
            if work > MOST_WORK {
                return Err(PatchError::TooMuchWork);
            }
            tree.open();
            let Some((step, rest)) = steps.split_first() else { break };
            tree = match tree {
                Tree::Object(object) => {
                    object.get_mut(step.text()).ok_or_else(|| missing(no_member(step)))?
                }
                Tree::Array(elements) => {
                    let place = step.place(elements.len()).map_err(missing)?;
                    elements.get_mut(place).ok_or_else(|| missing(no_member(step)))?
                }
                Tree::Text(_) => {
                    return Err(missing(format!("what is before {:?} is no container", step.text())));
                }
            };
            left = Some(rest);
        }
        self.work = work;
        Ok(tree)
    }

    /// Counts what is to be put at a path, and refuses what makes the value too large.
    fn grow(&mut self, path: &Pointer, value: &Tree<'a>) -> Result<(), PatchError> {
        let extent = value.extent();
        self.spend(extent.bytes)?;
        if path.steps() + extent.depth > DEEPEST {
            return Err(PatchError::TooDeep);
        }
        // Blanks that go when a container is opened are counted still; the end decides by what is
        // written, so only what is far over is refused here.
        self.bytes = self.bytes.saturating_add(extent.bytes);
        if self.bytes > self.bounds.most_bytes.saturating_mul(2).saturating_add(1 << 10) {
            return Err(PatchError::TooLong);
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), PatchError> {
        self.work = self.work.saturating_add(bytes);
        if self.work > MOST_WORK { Err(PatchError::TooMuchWork) } else { Ok(()) }
    }

    fn missing(&self, why: String) -> PatchError {
        PatchError::NoSuchPath { operation: self.at, what: self.what.clone(), why }
    }
}

impl Token {
    /// The place of an element that is there.
    fn place(&self, count: usize) -> Result<usize, String> {
        let number =
            self.number().ok_or_else(|| format!("{:?} is not the number of an element", self.text()))?;
        let place = i64::try_from(number).ok().and_then(|number| place_of(number, count));
        place.ok_or_else(|| format!("the array has {count} elements, so none has the number {number}"))
    }

    /// The place for an element that is to be added.
    fn place_to_add(&self, count: usize) -> Result<usize, String> {
        if self.text() == "-" {
            return Ok(count);
        }
        let number =
            self.number().ok_or_else(|| format!("{:?} is not the number of an element", self.text()))?;
        let place = usize::try_from(number).ok().filter(|place| *place <= count);
        place
            .ok_or_else(|| format!("the array has {count} elements, so none can be added as number {number}"))
    }
}

fn no_member(token: &Token) -> String {
    format!("there is no {:?} there", token.text())
}

fn not_a_container(steps: &[Token]) -> String {
    match steps.last() {
        Some(step) => format!("{:?} is neither an object nor an array", step.text()),
        None => "the value is neither an object nor an array".to_owned(),
    }
}

#[cfg(test)]
#[path = "json_patch_tests.rs"]
mod tests;
