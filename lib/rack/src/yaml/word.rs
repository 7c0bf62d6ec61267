// SPDX-License-Identifier: Apache-2.0
//! Which known word was meant by a misspelt one.

/// The known word a typist most likely meant, if one is near enough to be worth saying.
pub(crate) fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase();
    known
        .iter()
        .map(|k| (distance(&word, &k.to_lowercase()), *k))
        .min()
        .filter(|(d, k)| *d <= 1 + k.chars().count() / 4)
        .map(|(_, k)| k)
}

/// Edits between two short words; a swap of neighbours counts as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let width = b.len() + 1;
    let mut d = vec![0; (a.len() + 1) * width];
    for (j, first_row) in d.iter_mut().take(width).enumerate() {
        *first_row = j;
    }
    for i in 1..=a.len() {
        d[i * width] = i;
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (d[(i - 1) * width + j] + 1)
                .min(d[i * width + j - 1] + 1)
                .min(d[(i - 1) * width + j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(d[(i - 2) * width + j - 2] + 1);
            }
            d[i * width + j] = best;
        }
    }
    d[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["memory", "command", "cpus"];
        assert_eq!(closest("memroy", &known), Some("memory"));
        assert_eq!(closest("Cpus", &known), Some("cpus"));
        assert_eq!(closest("volumes", &known), None);
    }
}
