//! A CNI error object (CNI SPEC 1.1.0, section 5, "Error").

use crate::json;
use crate::version;

/// Those of the well-known codes that the plugin itself answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidEnvironment = 4,
    InputOutput = 5,
    Undecodable = 6,
    InvalidConfig = 7,
    TryAgainLater = 11,
    /// STATUS: the plugin can't serve ADD.
    NotAvailable = 50,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    pub code: Code,
    /// What is wrong, for whoever reads the events of a pod.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl CniError {
    /// `asked`: the configuration's `cniVersion`, where there is one.
    pub fn to_json(&self, asked: Option<&str>) -> String {
        format!(
            "{{\"cniVersion\":{},\"code\":{},\"msg\":{},\"details\":{}}}\n",
            json::quoted(version::spoken(asked)),
            self.code as u32,
            json::quoted(&self.message),
            json::quoted(self.remedy),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_object_on_one_line() {
        let error = CniError { code: Code::TryAgainLater, message: "no \"agent\"\n".to_owned(), remedy: "start it" };
        assert_eq!(
            error.to_json(Some("1.0.0")),
            "{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no \\\"agent\\\"\\n\",\"details\":\"start it\"}\n"
        );
    }
}
