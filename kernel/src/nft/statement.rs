//! What a foreign rule does with every packet, out of its expressions. Whatever is not known for certain to be without a
//! condition, and to decide, does nothing here.

use crate::decision::Step;
use crate::nft::encode::{ACCEPT, DROP};
use crate::nft::reply;

/// `NFTA_EXPR_*`, `NFTA_IMMEDIATE_*`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_*`, `NFTA_MATCH_NAME`, `NFTA_TARGET_NAME`
/// (uapi/linux/netfilter/nf_tables.h, nf_tables_compat.h).
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const EXTENSION_NAME: u16 = 1;
/// `NFT_JUMP`, `NFT_GOTO`, `NFT_RETURN`.
const JUMP: u32 = -3_i32 as u32;
const GOTO: u32 = -4_i32 as u32;
const RETURN: u32 = -5_i32 as u32;

/// What a rule does, by the list of its expressions.
pub(super) fn statement(expressions: &[u8]) -> Step<String> {
    for (_, expression) in reply::attributes(expressions) {
        let part = |kind| reply::get(expression, kind).unwrap_or_default();
        let data = part(EXPRESSION_DATA);
        let extension = || name(reply::get(data, EXTENSION_NAME).unwrap_or_default());
        match name(part(EXPRESSION_NAME)) {
            // Packets are counted and logged, and go on.
            b"counter" | b"log" | b"objref" => {}
            b"match" if extension() == b"comment" => {}
            b"target" if [&b"LOG"[..], b"NFLOG"].contains(&extension()) => {}
            b"target" if extension() == b"REJECT" => return Step::Drop,
            b"reject" => return Step::Drop,
            b"immediate" => return verdict(data),
            _ => return Step::Other,
        }
    }
    Step::Other
}

fn verdict(data: &[u8]) -> Step<String> {
    let verdict = reply::get(data, IMMEDIATE_DATA).and_then(|data| reply::get(data, DATA_VERDICT)).unwrap_or_default();
    let code = reply::get(verdict, VERDICT_CODE).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
    let chain = || String::from_utf8_lossy(name(reply::get(verdict, VERDICT_CHAIN).unwrap_or_default())).into_owned();
    match code {
        Some(ACCEPT) => Step::Accept,
        Some(DROP) => Step::Drop,
        Some(JUMP) => Step::Jump(chain()),
        Some(GOTO) => Step::Goto(chain()),
        Some(RETURN) => Step::Return,
        _ => Step::Other,
    }
}

/// A name without the zero byte at its end.
fn name(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Rule;

    #[test]
    fn only_a_rule_without_a_condition_decides() {
        let read = |rule: Rule| statement(&rule.emit());
        assert_eq!(read(Rule::new().drop()), Step::Drop);
        assert_eq!(read(Rule::new().count("c").accept()), Step::Accept);
        assert_eq!(read(Rule::new().jump("other")), Step::Jump("other".into()));
        assert_eq!(read(Rule::new().return_()), Step::Return);
        assert_eq!(read(Rule::new().iifname("eth0").drop()), Step::Other);
        assert_eq!(read(Rule::new().count("c")), Step::Other);
        assert_eq!(statement(&[]), Step::Other);
        assert_eq!(statement(&[12, 0, 1, 0, 8, 0]), Step::Other);
    }
}
