//! The steps that this call has done, and how each is reverted: in reverse order on drop, unless committed.
//!
//! It stops at a step that cannot be reverted. What was done before that stays, and so does the record, so the runtime's DEL
//! finds it.

use podwire_attachment::log;

/// How a step is reverted; the error is a sentence.
type Revert<'a> = Box<dyn FnOnce() -> Result<(), String> + 'a>;

/// Steps that are reverted on drop.
#[derive(Default)]
pub(crate) struct Undo<'a> {
    steps: Vec<Revert<'a>>,
}

impl<'a> Undo<'a> {
    /// Adds how the step that was just done is reverted.
    pub(crate) fn push(&mut self, revert: impl FnOnce() -> Result<(), String> + 'a) {
        self.steps.push(Box::new(revert));
    }

    /// Success: nothing is reverted.
    pub(crate) fn commit(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let steps: Vec<_> = self.steps.drain(..).rev().collect();
        for revert in steps {
            if let Err(error) = revert() {
                // The first error is the result of the call; this one goes to the log.
                log::note(format_args!("undo: {error}: DEL removes what is left"));
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
    fn t5_earlier_steps_stay_when_a_later_one_cannot_be_reverted() {
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
