//! What of ClusterNetworkPolicies is without effect as the cluster is: those that select no pod, and names of ports that nobody
//! declares, by whatever protocol.

use std::collections::{BTreeSet, HashMap};

use crate::policy::cluster_policy::ClusterPolicy;
use crate::policy::labels::Labels;
use crate::policy::namespace::Namespace;
use crate::policy::network_policy::Direction;
use crate::policy::pod::Pod;
use crate::policy::port::Which;
use crate::policy::text::Text;

/// What is without effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IneffectiveCluster {
    /// Policies that select no pod of the cluster.
    pub selecting_none: Vec<Text>,
    /// Names of ports that nobody declares who could be meant: the policy, the direction, the place of the rule, and the name.
    pub undeclared: Vec<(Text, Direction, usize, Text)>,
}

impl IneffectiveCluster {
    /// Looks at all policies.
    pub fn of(pods: &[&Pod], namespaces: &[&Namespace], policies: &[&ClusterPolicy]) -> Self {
        let namespaces = namespaces.iter().map(|namespace| (&namespace.name, &namespace.labels));
        let namespaces: HashMap<&Text, &Labels> = namespaces.collect();
        let declared = |pods: &mut dyn Iterator<Item = &&Pod>| -> BTreeSet<Text> {
            pods.flat_map(|pod| pod.named_ports.iter().map(|port| port.name.clone())).collect()
        };
        let alive: Vec<_> = pods.iter().copied().filter(|pod| !pod.host_network && !pod.finished).collect();
        let of_all = declared(&mut alive.iter());
        let mut found = Self::default();
        for policy in policies {
            let selects = |pod: &&&Pod| policy.selects(pod, namespaces.get(&pod.namespace).copied());
            if !alive.iter().any(|pod| selects(&pod)) {
                found.selecting_none.push(policy.name.clone());
                continue;
            }
            let own = declared(&mut alive.iter().filter(selects));
            for direction in Direction::BOTH {
                // A name is looked up at the destination.
                let known = if direction == Direction::Ingress { &own } else { &of_all };
                for (place, rule) in policy.rules(direction).iter().enumerate() {
                    let names = rule.matches.ports.iter().flatten().filter_map(|ports| match &ports.which {
                        Which::Named(name) => Some(name),
                        _ => None,
                    });
                    let names: BTreeSet<&Text> = names.filter(|name| !known.contains(*name)).collect();
                    let undeclared = |name: &Text| (policy.name.clone(), direction, place, name.clone());
                    found.undeclared.extend(names.into_iter().map(undeclared));
                }
            }
        }
        found.selecting_none.sort();
        found.undeclared.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::documents::Objects;

    const OBJECTS: &str = "\
---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {team: red}}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: a, labels: {app: web}}
spec: {nodeName: n, containers: [{ports: [{name: http, containerPort: 80}]}]}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: dns, namespace: b, labels: {app: dns}}
spec: {nodeName: n, containers: [{ports: [{name: dns, containerPort: 53, protocol: UDP}]}]}
---\napiVersion: v1\nkind: Pod\nmetadata: {name: job, namespace: a, labels: {app: job}}\nstatus: {phase: Succeeded}
";

    fn policy(name: &str, subject: &str) -> String {
        let ports = |of: &str| {
            format!(
                "{{action: Deny, {of}: [{{namespaces: {{}}}}], protocols: [{{destinationNamedPort: http}}, {{destinationNamedPort: dns}}, {{destinationNamedPort: smtp}}]}}"
            )
        };
        format!(
            "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\n\
             spec: {{tier: Admin, priority: 1, subject: {subject}, ingress: [{}], egress: [{}]}}\n",
            ports("from"),
            ports("to")
        )
    }

    #[test]
    fn a_policy_that_selects_no_pod_and_a_name_that_no_pod_declares_are_found() {
        let pods =
            |app: &str| format!("{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: {app}}}}}}}}}");
        let policies = [
            policy("red", "{namespaces: {matchLabels: {team: red}}}"),
            policy("blue", "{namespaces: {matchLabels: {team: blue}}}"),
            policy("finished", &pods("job")),
            // Its namespace is not known.
            policy("elsewhere", &pods("dns")),
        ];
        let objects = Objects::read(&format!("{OBJECTS}{}", policies.concat())).unwrap();
        let (pods, namespaces) =
            (objects.pods.iter().collect::<Vec<_>>(), objects.namespaces.iter().collect::<Vec<_>>());
        let found = IneffectiveCluster::of(&pods, &namespaces, &objects.cluster_policies.iter().collect::<Vec<_>>());
        assert_eq!(
            found.selecting_none.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["blue", "elsewhere", "finished"]
        );
        let undeclared: Vec<_> = found
            .undeclared
            .iter()
            .map(|(policy, direction, rule, name)| format!("{policy} {direction:?} {rule} {name}"))
            .collect();
        assert_eq!(undeclared, ["red Ingress 0 dns", "red Ingress 0 smtp", "red Egress 0 smtp"]);
    }
}
