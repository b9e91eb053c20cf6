//! The network namespace of a pod, opened.

use podwire_kernel::Socket;
use podwire_kernel::netns::Namespace;
use podwire_kernel::sysctl::{Proc, Tree};

use crate::cni::{Code, Failure};

/// The network namespace of a pod, opened.
pub(crate) struct PodNetns {
    /// The namespace.
    pub(crate) namespace: Namespace,
    /// A socket in the pod.
    pub(crate) inside: Socket,
    /// A mount of /proc, for sysctls.
    pub(crate) proc: Proc,
    /// The sysctls of the pod.
    pub(crate) settings: Tree,
}

/// Opens the pod's namespace and a socket in it. The plugin's own namespace is refused: its interfaces are the node's.
pub(crate) fn open_pod(path: &str, may_be_own: bool) -> Result<PodNetns, Failure> {
    let refuse = |error: podwire_kernel::Error| Failure::new(Code::Namespace, error.to_string(), "");
    let (namespace, own) = (Namespace::open(path).map_err(refuse)?, Namespace::own()?);
    if !may_be_own && namespace.is(&own).map_err(refuse)? {
        let message = "plugin's netns and netns from CNI_NETNS should not be the same";
        return Err(Failure::new(Code::Namespace, message, path));
    }
    let proc = Proc::private();
    let (inside, settings) = namespace.within(&own, || (Socket::route(), Tree::own(&proc))).map_err(refuse)?;
    Ok(PodNetns { namespace, inside: inside?, proc, settings: settings? })
}
