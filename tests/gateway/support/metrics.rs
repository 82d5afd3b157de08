//! One scrape of the admin address, read by the text format's own rules.

/// A scrape in Prometheus text format 0.0.4.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub text: String,
}

impl Metrics {
    /// The sum of all samples of `name` that carry these labels; `None` where there is no such sample.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.samples(name)
            .filter(|(found, _)| {
                labels
                    .iter()
                    .all(|(label, value)| found.iter().any(|(l, v)| l == label && v == value))
            })
            .map(|(_, value)| value)
            .reduce(|sum, value| sum + value)
    }

    /// The values a label takes on the samples of `name` whose value is not zero.
    pub fn label_values(&self, name: &str, label: &str) -> Vec<String> {
        self.samples(name)
            .filter(|(_, value)| *value != 0.0)
            .filter_map(|(labels, _)| labels.into_iter().find(|(l, _)| l == label).map(|(_, v)| v))
            .collect()
    }

    fn samples(&self, name: &str) -> impl Iterator<Item = (Vec<(String, String)>, f64)> {
        self.text.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ").expect("a closed set of labels"),
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((read_labels(labels), value.trim().parse().expect("a number as sample")))
        })
    }
}

fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().expect("a closed label value") {
                (_, '\\') => match characters.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at + 1,
                (_, other) => value.push(other),
            }
        };
        labels.push((label.trim_start_matches(',').to_owned(), value));
        rest = &after[end..];
    }
    labels
}
