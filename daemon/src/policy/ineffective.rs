//! What of policies is without effect as the cluster is: those that select no pod, and names of ports that nobody declares. Mostly a
//! misspelt label or name, which the API accepts.

use std::collections::{BTreeSet, HashMap};

use crate::policy::network_policy::{Direction, NetworkPolicy, PolicyName};
use crate::policy::pod::Pod;
use crate::policy::port::{Ports, Which};
use crate::policy::text::Text;

/// What is without effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ineffective {
    /// Policies that select no pod of the cluster.
    pub selecting_none: Vec<PolicyName>,
    /// Names of ports that nobody declares who could be meant.
    pub undeclared: Vec<Undeclared>,
}

/// A name of a port in a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Undeclared {
    /// The policy.
    pub policy: PolicyName,
    /// The direction of the rule.
    pub direction: Direction,
    /// Its place in the policy.
    pub rule: usize,
    /// The port.
    pub port: Ports,
}

impl Ineffective {
    /// Looks at all policies of a cluster.
    pub fn of<'a>(
        pods: impl IntoIterator<Item = &'a Pod>,
        policies: impl IntoIterator<Item = &'a NetworkPolicy>,
    ) -> Self {
        let mut by_namespace: HashMap<&Text, Vec<&Pod>> = HashMap::new();
        let mut declared = BTreeSet::new();
        for pod in pods.into_iter().filter(|pod| !pod.host_network && !pod.finished) {
            by_namespace.entry(&pod.namespace).or_default().push(pod);
            declared.extend(pod.named_ports.iter().map(|port| (&port.name, port.protocol)));
        }
        let mut found = Self::default();
        for policy in policies {
            let pods = by_namespace.get(&policy.name.namespace).map_or(&[][..], |pods| pods);
            let mut selected = pods.iter().filter(|pod| policy.selector.matches(&pod.labels)).peekable();
            if selected.peek().is_none() {
                found.selecting_none.push(policy.name.clone());
                continue;
            }
            let mut own = None;
            for direction in Direction::BOTH {
                for (rule, port) in named(policy, direction) {
                    let Which::Named(name) = &port.which else { continue };
                    let is_declared = match direction {
                        // A name is looked up at the destination.
                        Direction::Egress => declared.contains(&(name, port.protocol)),
                        Direction::Ingress => own
                            .get_or_insert_with(|| {
                                let ports = selected.by_ref().flat_map(|pod| pod.named_ports.iter());
                                ports.map(|port| (&port.name, port.protocol)).collect::<BTreeSet<_>>()
                            })
                            .contains(&(name, port.protocol)),
                    };
                    if !is_declared {
                        let (policy, port) = (policy.name.clone(), port.clone());
                        found.undeclared.push(Undeclared { policy, direction, rule, port });
                    }
                }
            }
        }
        found.selecting_none.sort();
        found.undeclared.sort();
        found
    }
}

/// The ports of a policy that have names, each with the place of its rule.
fn named(policy: &NetworkPolicy, direction: Direction) -> impl Iterator<Item = (usize, &Ports)> {
    let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
    let ports = rules.flat_map(|(place, rule)| rule.ports.iter().flatten().map(move |port| (place, port)));
    ports.filter(|(_, port)| matches!(port.which, Which::Named(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::documents::Objects;

    fn found(policies: &str) -> Ineffective {
        let pods = "\
---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: a, labels: {app: web}}
spec: {nodeName: n, containers: [{ports: [{name: http, containerPort: 80}]}]}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: dns, namespace: b, labels: {app: dns}}
spec: {nodeName: n, containers: [{ports: [{name: dns, containerPort: 53, protocol: UDP}]}]}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: a, labels: {app: host}}\nspec: {nodeName: n, hostNetwork: true}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: job, namespace: a, labels: {app: job}}\nspec: {nodeName: n}\nstatus: {phase: Succeeded}
";
        let objects = Objects::read(&format!("{pods}{policies}")).unwrap();
        Ineffective::of(&objects.pods, &objects.policies)
    }

    fn policy(name: &str, namespace: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
        )
    }

    #[test]
    fn a_policy_that_selects_a_pod_of_its_namespace_is_in_effect_and_others_are_not() {
        let of = |name: &str, namespace: &str, app: &str| {
            policy(name, namespace, &format!("podSelector: {{matchLabels: {{app: {app}}}}}"))
        };
        let policies = [
            of("web", "a", "web"),
            of("elsewhere", "b", "web"),
            of("host", "a", "host"),
            of("finished", "a", "job"),
            policy("all", "a", "podSelector: {}"),
            policy("none", "c", "podSelector: {}"),
        ];
        let found = found(&policies.concat());
        let names: Vec<_> = found.selecting_none.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a/finished", "a/host", "b/elsewhere", "c/none"]);
        assert_eq!(found.undeclared, []);
    }

    #[test]
    fn a_named_port_has_to_be_declared_by_a_pod_that_is_selected_or_for_egress_by_any() {
        let spec = "podSelector: {}, policyTypes: [Ingress, Egress],
            ingress: [{}, {ports: [{port: http}, {port: dns, protocol: UDP}, {port: 80}]}],
            egress: [{ports: [{port: http}, {port: dns, protocol: UDP}, {port: dns}, {port: smtp}]}]";
        let found = found(&policy("p", "a", spec));
        let shown = |undeclared: &Undeclared| {
            let Undeclared { policy, direction, rule, port } = undeclared;
            format!("{policy} {direction:?} {rule} {port}")
        };
        let undeclared: Vec<_> = found.undeclared.iter().map(shown).collect();
        assert_eq!(undeclared, ["a/p Ingress 1 UDP dns", "a/p Egress 0 TCP dns", "a/p Egress 0 TCP smtp"]);
        assert_eq!(found.selecting_none, []);
    }
}
