//! What is in force of the cluster's policies on this node, and how whoever has put it in force is asked about it. Values only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use podwire_attachment::ledger::PodName;

use crate::policy::cluster_policy::ClusterPolicy;
use crate::policy::compiled::Compiled;
use crate::policy::namespace::Namespace;
use crate::policy::network_policy::NetworkPolicy;
use crate::policy::pod::Pod;
use crate::policy::service_range::ServiceRange;
use crate::report::problem::Problem;

/// Questions that may wait for an answer at once.
const WAITING: usize = 16;

/// What is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyState {
    /// Whether the policies were in the kernel, as the API or the files had them, after the last round.
    pub in_force: bool,
    /// How many policies the cluster has.
    pub policies: usize,
    /// How many ClusterNetworkPolicies it has.
    pub cluster_policies: usize,
    /// How many pods of this node they isolate, in one direction or in both.
    pub isolated: usize,
    /// What is wrong with the objects: those that are rejected, and lists that cannot be had. There may be thousands.
    pub of_objects: Arc<[Problem]>,
    /// What else is wrong: pods that are not known, what the kernel has refused.
    pub problems: Vec<Problem>,
}

impl PolicyState {
    /// All that is wrong.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> + Clone {
        self.of_objects.iter().chain(&self.problems)
    }
}

/// The pods that are attached here: what the object of each was last, and its addresses.
pub type Attached = BTreeMap<PodName, (Option<Arc<Pod>>, Vec<IpAddr>)>;

/// What the kernel has, and what it was made of.
#[derive(Debug, Clone)]
pub struct Enforced<'a> {
    /// What the policies were compiled to.
    pub compiled: &'a Compiled,
    /// The pods that are attached here.
    pub attached: &'a Attached,
    /// The pods of the cluster.
    pub pods: Vec<&'a Pod>,
    /// The namespaces of the cluster.
    pub namespaces: Vec<&'a Namespace>,
    /// The policies of the cluster.
    pub policies: Vec<&'a NetworkPolicy>,
    /// The ClusterNetworkPolicies of the cluster.
    pub cluster_policies: Vec<&'a ClusterPolicy>,
    /// What addresses are Services', as far as it is known.
    pub service_ranges: Vec<&'a ServiceRange>,
}

/// A question about what is in force; that is nothing where nothing has been so far.
pub type Question = Box<dyn FnOnce(Option<&Enforced<'_>>) + Send>;

/// Questions that wait for whoever has put the policies in force. That is large, and changes in place: so a question goes to where
/// it is, and is answered between two changes.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<Vec<Question>>>);

impl Waiting {
    /// Those that wait, each once.
    pub fn take(&self) -> Vec<Question> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where questions are asked.
#[derive(Clone)]
pub struct Questions {
    waiting: Waiting,
    wake: SyncSender<()>,
}

impl Questions {
    /// Each question will wake whoever answers.
    pub fn new(wake: SyncSender<()>) -> Self {
        Self { waiting: Waiting::default(), wake }
    }

    /// The questions that have not been answered.
    pub fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Asks; whether there was room for the question.
    pub fn ask(&self, question: impl FnOnce(Option<&Enforced<'_>>) + Send + 'static) -> bool {
        let mut waiting = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = waiting.len() < WAITING;
        if has_room {
            waiting.push(Box::new(question));
            // One wake-up that has not been taken stands for all.
            let _ = self.wake.try_send(());
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn each_question_wakes_and_is_taken_once_and_those_that_are_too_many_are_refused() {
        let (wake, woken) = mpsc::sync_channel(1);
        let questions = Questions::new(wake);
        let (answered, answers) = mpsc::channel();
        let ask = |number: usize| {
            let answered = answered.clone();
            questions.ask(move |enforced| answered.send((number, enforced.is_none())).unwrap())
        };
        assert!(ask(0));
        woken.try_recv().unwrap();
        assert!((1..WAITING).all(ask));
        assert!(!ask(WAITING));
        woken.try_recv().unwrap();
        let waiting = questions.waiting();
        waiting.take().into_iter().for_each(|question| question(None));
        assert_eq!(
            answers.try_iter().collect::<Vec<_>>(),
            (0..WAITING).map(|number| (number, true)).collect::<Vec<_>>()
        );
        // There is room again, and nothing waits that has been answered.
        assert!(waiting.take().is_empty() && ask(WAITING));
    }
}
