//! What keeps NetworkPolicies from meaning what they say: Services that IPVS sends past them, policies that select no pod, names of
//! ports that nobody declares.

use podwire_kernel::{Socket, link};

use super::error::{Error, Result};
use super::examined::Examined;
use super::finding::{Finding, FindingKind};
use super::fix::command;
use crate::observe::policies::document::{List, ServiceBlock, UndeclaredPort};
use crate::observe::status::client::{self, AskError};

/// The device that kube-proxy has the addresses of Services on, in its mode "ipvs".
const IPVS_DEVICE: &str = "kube-ipvs0";

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    if node.status.as_ref().is_none_or(|status| status.network_policy.is_none()) {
        return Ok(Vec::new());
    }
    let mut findings: Vec<_> = link::by_name(socket, IPVS_DEVICE)?.map(|_| by_ipvs()).into_iter().collect();
    match client::policies() {
        Ok(list) => findings.extend(judge(&list)),
        // Its status says why policies are not in force.
        Err(AskError::Refused(_)) => {}
        Err(error) => return Err(Error::Policies(error)),
    }
    Ok(findings)
}

fn by_ipvs() -> Finding {
    let cause = "kube-proxy runs in its mode \"ipvs\": IPVS sends what pods send to Services from a place where policies do not see \
                 it, so that their egress, and the ingress of endpoints on this node, do not judge it";
    let fix = "kubectl --namespace kube-system edit configmap kube-proxy   # mode: nftables; then restart kube-proxy on each node, \
               and there kube-proxy --cleanup";
    Finding::new(FindingKind::ServicesPastPolicies, IPVS_DEVICE, cause, fix)
}

fn judge(list: &List) -> Vec<Finding> {
    let selects_none = |policy: &String| {
        let cause = format!("policy {policy} selects no pod of the cluster: it isolates nothing");
        let fix = match policy.split_once('/') {
            Some((namespace, name)) => command!(
                "kubectl --namespace {0} get pods --show-labels; kubectl --namespace {0} edit networkpolicy {1}",
                namespace,
                name
            ),
            None => command!(
                "kubectl get pods --all-namespaces --show-labels; kubectl edit clusternetworkpolicy {}",
                policy
            ),
        };
        Finding::new(FindingKind::PolicySelectsNone, policy, cause, fix)
    };
    let undeclared = |UndeclaredPort { policy, rule, port }: &UndeclaredPort| {
        let cause = format!(
            "{rule} of policy {policy} names the port {port}, and no pod that could be meant declares that name"
        );
        let fix = match policy.split_once('/') {
            Some((namespace, name)) => command!(
                "kubectl --namespace {} edit networkpolicy {}   # or give the port this name in the spec of its pods",
                namespace,
                name
            ),
            None => command!(
                "kubectl edit clusternetworkpolicy {}   # or give the port this name in the spec of the pods",
                policy
            ),
        };
        Finding::new(FindingKind::PortUndeclared, policy, cause, fix)
    };
    let of_ports = list.undeclared_ports.iter().map(undeclared);
    let of_blocks = list.service_blocks.iter().map(of_services);
    list.selecting_none.iter().map(selects_none).chain(of_ports).chain(of_blocks).collect()
}

/// A block that NAT keeps from matching.
fn of_services(ServiceBlock { policy, rule, block }: &ServiceBlock) -> Finding {
    let why = match rule.starts_with("egress") {
        true => {
            "what a pod sends to a Service is translated before policies judge it, so that the address and the port of the pod behind it count"
        }
        false => "nothing comes from the address of a Service",
    };
    let cause = format!(
        "{rule} of policy {policy} has the block {block}, in which there are addresses of Services only: {why}"
    );
    let fix = match policy.split_once('/') {
        Some((namespace, name)) => command!(
            "kubectl --namespace {} edit networkpolicy {}   # mean the pods behind the Service, by their labels and their own ports",
            namespace,
            name
        ),
        None => command!(
            "kubectl edit clusternetworkpolicy {}   # mean the pods behind the Service, by their labels and their own ports",
            policy
        ),
    };
    Finding::new(FindingKind::BlockOfServices, policy, cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_effect_is_found_with_the_command_that_edits_it() {
        let (policy, rule, port) = ("a/web".to_owned(), "ingress[1]".into(), "TCP http".into());
        let block = |policy: &str, rule: &str| {
            let (policy, rule, block) = (policy.into(), rule.into(), "10.96.0.10/32".into());
            ServiceBlock { policy, rule, block }
        };
        let list = List {
            selecting_none: vec!["a/$(reboot)".into(), "all".into()],
            undeclared_ports: vec![UndeclaredPort { policy, rule, port }],
            service_blocks: vec![block("a/dns", "egress[0]"), block("all", "ingress[2]")],
            ..List::default()
        };
        let found = judge(&list);
        let kinds: Vec<_> = found.iter().map(|finding| (finding.kind, finding.subject.as_deref())).collect();
        let expected = [
            (FindingKind::PolicySelectsNone, Some("a/$(reboot)")),
            (FindingKind::PolicySelectsNone, Some("all")),
            (FindingKind::PortUndeclared, Some("a/web")),
            (FindingKind::BlockOfServices, Some("a/dns")),
            (FindingKind::BlockOfServices, Some("all")),
        ];
        assert_eq!(kinds, expected);
        assert!(found[0].fix.ends_with("kubectl --namespace a edit networkpolicy '$(reboot)'"), "{}", found[0].fix);
        assert!(found[1].fix.ends_with("; kubectl edit clusternetworkpolicy all"), "{}", found[1].fix);
        let found = &found[1..];
        assert!(found[1].fix.starts_with("kubectl --namespace a edit networkpolicy web "), "{}", found[1].fix);
        assert!(
            found[1].cause.starts_with("ingress[1] of policy a/web names the port TCP http,"),
            "{}",
            found[1].cause
        );
        let [.., egress, ingress] = found else { panic!("{found:?}") };
        assert!(egress.fix.starts_with("kubectl --namespace a edit networkpolicy dns "), "{}", egress.fix);
        let sentence = "egress[0] of policy a/dns has the block 10.96.0.10/32, in which there are addresses of Services only: what a";
        assert!(egress.cause.starts_with(sentence), "{}", egress.cause);
        assert!(ingress.fix.starts_with("kubectl edit clusternetworkpolicy all "), "{}", ingress.fix);
        assert!(ingress.cause.ends_with(": nothing comes from the address of a Service"), "{}", ingress.cause);
    }
}
