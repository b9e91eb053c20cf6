//! What this call has done so far, and how each step is reverted: run in reverse on drop, unless committed.
//!
//! A step that cannot be reverted ends it: what was done before it stays, and so does the record of it, by which the
//! runtime's DEL finds all of that.

/// How a step is reverted; the error is a sentence.
type Revert<'a> = Box<dyn FnOnce() -> Result<(), String> + 'a>;

/// The steps that are reverted when this is dropped.
#[derive(Default)]
pub(crate) struct Undo<'a> {
    steps: Vec<Revert<'a>>,
}

impl<'a> Undo<'a> {
    /// Notes how the step that was just done is reverted.
    pub(crate) fn push(&mut self, revert: impl FnOnce() -> Result<(), String> + 'a) {
        self.steps.push(Box::new(revert));
    }

    /// All is well: nothing is reverted.
    pub(crate) fn commit(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let steps: Vec<_> = self.steps.drain(..).rev().collect();
        for revert in steps {
            if let Err(error) = revert() {
                // The first error is the answer; this one is for the log.
                eprintln!("podwire: undo: {error}: DEL takes away what is left");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn steps_are_reverted_last_first_unless_committed() {
        let done = RefCell::new(Vec::new());
        for commit in [false, true] {
            let mut undo = Undo::default();
            for name in ["first", "second"] {
                let done = &done;
                undo.push(move || {
                    done.borrow_mut().push(name);
                    Ok(())
                });
            }
            if commit {
                undo.commit();
            }
        }
        assert_eq!(*done.borrow(), ["second", "first"]);
    }

    #[test]
    fn t5_what_a_step_stands_on_stays_when_the_step_cannot_be_reverted() {
        let done = RefCell::new(Vec::new());
        let mut undo = Undo::default();
        undo.push(|| {
            done.borrow_mut().push("record");
            Ok(())
        });
        undo.push(|| Err("the device stays".to_owned()));
        undo.push(|| {
            done.borrow_mut().push("firewall");
            Ok(())
        });
        drop(undo);
        assert_eq!(*done.borrow(), ["firewall"]);
    }
}
