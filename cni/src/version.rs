//! The versions of the CNI specification that are spoken, and the answer to VERSION (CNI SPEC 1.1.0, section 2 and 5).

use crate::json;

pub const SUPPORTED: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What is spoken with a caller who names no version that is supported.
pub const NEWEST: &str = "1.1.0";

/// The version in which an error is told.
pub fn spoken(asked: Option<&str>) -> &str {
    asked.filter(|asked| SUPPORTED.contains(asked)).unwrap_or(NEWEST)
}

/// The answer to VERSION. It repeats the version of the question, whatever that is; libcni takes no empty one.
pub fn report(asked: Option<&str>) -> String {
    let version = json::quoted(asked.filter(|asked| !asked.is_empty()).unwrap_or(NEWEST));
    let supported = SUPPORTED.map(json::quoted).join(",");
    format!("{{\"cniVersion\":{version},\"supportedVersions\":[{supported}]}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_version_repeats_the_version_of_the_question() {
        assert_eq!(
            report(Some("0.4.0")),
            "{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
        );
        assert!(report(Some("9.\"9")).starts_with(r#"{"cniVersion":"9.\"9","#));
        for nothing in [None, Some("")] {
            assert!(report(nothing).starts_with(r#"{"cniVersion":"1.1.0","#));
        }
    }

    #[test]
    fn errors_are_told_in_the_version_asked_for_where_it_is_supported() {
        assert_eq!(spoken(Some("0.3.1")), "0.3.1");
        assert_eq!(spoken(Some("0.2.0")), "1.1.0");
        assert_eq!(spoken(None), "1.1.0");
    }
}
