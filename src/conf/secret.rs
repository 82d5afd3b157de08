//! Secrets: named by reference, never shown.

use std::fmt;
use std::path::PathBuf;
use std::sync::LazyLock;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{Describe, Load, Node, Place, Read, Schema, Schemas, Value};

/// What [`Load::check_references`] calls them among the names.
const REFERENCE: &str = "reference";

impl Load {
    /// Tells the secrets that were read so far from others.
    pub fn secrets_mark(&self) -> SecretsMark {
        self.secrets.get()
    }

    /// Reports references to secrets where none is expected: nothing is put in their place there.
    pub fn check_references(&self, document: &Node) {
        match &document.value {
            Value::Null => {}
            Value::Scalar { text, .. } => {
                let is_reference = text.contains("${env:") || text.contains("${file:");
                let place = &document.place;
                if is_reference && !self.names.is_referred(REFERENCE, &place.to_string()) && !self.has_found_at(place) {
                    let message = "is put in only where a secret is expected; here it would stay as it is written";
                    self.error(place, format!("`{text}` {message}"));
                }
            }
            Value::List(items) => items.iter().for_each(|item| self.check_references(item)),
            Value::Map(entries) => entries.iter().for_each(|entry| self.check_references(&entry.value)),
        }
    }
}

/// Tells whether secrets are others than before, and nothing else of them: it is made with a key that only this process has, and
/// nothing shows it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretsMark([u8; 32]);

impl SecretsMark {
    /// The mark of these secrets and one more; `None` for one that is missing.
    fn and(&self, secret: Option<&[u8]>) -> Self {
        static KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
            let mut seed = [0; 32];
            // Where there is no randomness, no gateway starts.
            let _ = SystemRandom::new().fill(&mut seed);
            hmac::Key::new(hmac::HMAC_SHA256, &seed)
        });
        let mut context = hmac::Context::with_key(&KEY);
        context.update(&self.0);
        context.update(&[u8::from(secret.is_some())]);
        context.update(secret.unwrap_or_default());
        let mut next = Self::default();
        next.0
            .iter_mut()
            .zip(context.sign().as_ref())
            .for_each(|(to, from)| *to = *from);
        next
    }
}

impl fmt::Debug for SecretsMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretsMark")
    }
}

/// A secret that the configuration names as `${env:NAME}` or `${file:PATH}`. Its value is fetched when a snapshot is made,
/// is in no log and in no hash but [`SecretsMark`], and is wiped when dropped.
#[derive(Clone)]
pub struct Secret {
    reference: Reference,
    place: Place,
}

#[derive(Clone, PartialEq, Eq)]
enum Reference {
    Env(String),
    File(PathBuf),
}

impl Secret {
    /// Reads a reference, or the path of a file that holds the secret; a secret itself is told from a path by its lines.
    pub(super) fn read_or_path(node: &Node, load: &Load) -> Option<Self> {
        let text = node.text("the path of a file", load)?;
        if text.starts_with("${") {
            return Self::read(node, load);
        }
        if text.is_empty() || text.contains('\n') || text.starts_with("-----") {
            node.place.conceal();
            load.error(&node.place, "a key is not written here; name the path of its file");
            return None;
        }
        let secret = Self {
            reference: Reference::File(node.place.directory().join(text)),
            place: node.place.clone(),
        };
        secret.attend(load);
        Some(secret)
    }

    /// Where the reference stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Fetches the value, without the line end of a file. The error says which name or path is missing, never a value.
    pub fn fetch(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut bytes = match &self.reference {
            Reference::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| format!("the variable `{name}` is not set"))?;
                Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(value))
            }
            Reference::File(path) => {
                let bytes =
                    std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
                Zeroizing::new(bytes)
            }
        };
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Err("the secret is empty".into());
        }
        Ok(bytes)
    }

    /// Marks what it is now, has the file watched, and warns at the reference if it can be read by others than its owner and
    /// group.
    fn attend(&self, load: &Load) {
        use std::os::unix::fs::PermissionsExt;
        // Before it is fetched for use: what changes in between is news the next time, never missed.
        let now = self.fetch().ok();
        load.secrets
            .set(load.secrets.get().and(now.as_ref().map(|bytes| bytes.as_slice())));
        let Reference::File(path) = &self.reference else { return };
        load.watch(path);
        if let Ok(metadata) = std::fs::metadata(path)
            && metadata.permissions().mode() & 0o004 != 0
        {
            load.warn(&self.place, format!("`{}` can be read by everybody", path.display()));
        }
    }
}

/// The same reference, wherever it stands.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Reference::Env(name) => write!(f, "${{env:{name}}}"),
            Reference::File(path) => write!(f, "${{file:{}}}", path.display()),
        }
    }
}

impl Describe for Secret {
    fn schema(schemas: &mut Schemas) -> Schema {
        schemas.named::<Self>("Secret", |_| {
            Schema::text(r"^\$\{(env|file):[\s\S]+\}$")
                .about("A secret, named and never written: `${env:NAME}` or `${file:PATH}`, in quotes.")
                .examples(["${env:NAME}", "${file:PATH}"])
        })
    }
}

impl Read for Secret {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let wanted = "a secret as `${env:NAME}` or `${file:PATH}`, in quotes";
        let text = node.text(wanted, load)?;
        let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let reference = match inner.and_then(|inner| inner.split_once(':')) {
            Some(("env", name)) if !name.is_empty() => Reference::Env(name.to_owned()),
            Some(("file", path)) if !path.is_empty() => Reference::File(node.place.directory().join(path)),
            _ => {
                // The text itself may be the secret: it is not repeated.
                node.place.conceal();
                load.error(
                    &node.place,
                    "a secret is not written here; name it as `${env:NAME}` or `${file:PATH}`",
                );
                return None;
            }
        };
        let secret = Self {
            reference,
            place: node.place.clone(),
        };
        load.names.refer(REFERENCE, &node.place.to_string());
        secret.attend(load);
        Some(secret)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn never_repeats_a_secret_written_inline() {
        let load = Load::new();
        let node = load.text("t.yaml", "hunter2-hunter2").unwrap();
        assert!(Secret::read(&node, &load).is_none());
        let findings = load.into_findings(None);
        let finding = findings.first().unwrap();
        assert!(!finding.to_string().contains("hunter2"));
        let place = finding.place.as_ref().unwrap();
        assert_eq!(crate::conf::Excerpt::of(place).unwrap().text, "*".repeat(15));
    }

    #[test]
    fn refuses_references_where_nothing_is_put_in() {
        let load = Load::new();
        let node = load
            .text("t.yaml", "a: '${env:A}'\nb: [\"x ${file:B}\"]\nc: $d\n")
            .unwrap();
        assert!(Secret::read(node.get("a").unwrap(), &load).is_some());
        load.check_references(&node);
        let findings = load.into_findings(None);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings
                .first()
                .unwrap()
                .message
                .starts_with("`x ${file:B}` is put in only where")
        );
    }

    #[test]
    fn fetches_a_file_without_its_line_end_and_shows_only_its_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "s3cret\n").unwrap();
        let load = Load::new();
        let yaml = format!("\"${{file:{}}}\"", folder.path().join("key").display());
        let secret = Secret::read(&load.text("t.yaml", &yaml).unwrap(), &load).unwrap();
        assert_eq!(secret.fetch().unwrap().as_slice(), b"s3cret");
        assert!(!format!("{secret:?}").contains("s3cret"));
    }

    #[test]
    fn marks_tell_secrets_apart_and_show_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let mark = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let load = Load::new();
            let yaml = format!("[\"${{file:{0}}}\", \"${{file:{0}}}\"]", path.display());
            Vec::<Secret>::read(&load.text("t.yaml", &yaml).unwrap(), &load).unwrap();
            load.secrets_mark()
        };
        let first = mark(Some("one"));
        assert_eq!(mark(Some("one")), first);
        assert_ne!(mark(Some("two")), first);
        assert_ne!(mark(None), first);
        assert_ne!(first, SecretsMark::default());
        assert_eq!(format!("{first:?}"), "SecretsMark");
    }
}
