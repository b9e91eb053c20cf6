//! The cluster as a small picture: pure.

/// A node as it is drawn.
#[derive(Debug, Clone)]
pub(crate) struct Box {
    /// Its name.
    pub(crate) title: String,
    /// The lines in it.
    pub(crate) lines: Vec<String>,
}

/// Boxes beside one another, hanging from the underlay, the outside above it.
pub(crate) fn draw(outside: &str, underlay: &str, boxes: &[Box]) -> String {
    let width = boxes.iter().flat_map(|node| &node.lines).map(|line| line.chars().count()).max().unwrap_or(0) + 2;
    let height = boxes.iter().map(|node| node.lines.len()).max().unwrap_or(0);
    let total = boxes.len() * (width + 3) - 1;
    let row = |cell: &dyn Fn(&Box) -> String| boxes.iter().map(cell).collect::<Vec<_>>().join(" ");
    let middle = |text: &str, fill: char, width: usize| {
        let left = width.saturating_sub(text.chars().count()) / 2;
        let right = width.saturating_sub(text.chars().count() + left);
        let run = |count| std::iter::repeat_n(fill, count).collect::<String>();
        format!("{}{text}{}", run(left), run(right))
    };
    let mut picture = vec![
        middle(outside, ' ', total),
        middle("│", ' ', total),
        middle(&format!(" {underlay} "), '─', total),
        row(&|_| middle("│", ' ', width + 2)),
        row(&|node| format!("┌{}┐", middle(&format!(" {} ", node.title), '─', width))),
    ];
    for line in 0..height {
        let text = |node: &Box| node.lines.get(line).cloned().unwrap_or_default();
        picture.push(row(&|node| format!("│ {:<inner$} │", text(node), inner = width - 2)));
    }
    picture.push(row(&|_| format!("└{}┘", "─".repeat(width))));
    picture.iter().map(|line| format!("  {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_fit_their_longest_line_and_their_fullest_box() {
        let node = |title: &str, lines: &[&str]| Box {
            title: title.into(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let expected = "\
\x20         out
\x20          │
\x20 ─────── net ───────
\x20     │         │
\x20 ┌── a ──┐ ┌── b ──┐
\x20 │ 12345 │ │ 1     │
\x20 │       │ │ 2     │
\x20 └───────┘ └───────┘";
        assert_eq!(draw("out", "net", &[node("a", &["12345"]), node("b", &["1", "2"])]), expected);
    }
}
