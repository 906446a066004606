//! Fault points: the operator can be told to end at a step, so that tests see it resume.
//!
//! `TRILITH_OPERATOR_FAULT=before:drain` ends the process just before the first step named
//! `drain`, `after:drain` just after it; a bare `drain` means after. It is off unless set, and is
//! meant for tests only.

use std::str::FromStr;

/// Where the operator ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    when: When,
    step: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// The status with which the operator ends at a fault point.
pub const EXIT_STATUS: i32 = 86;

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (when, step) = match text.split_once(':') {
            None => (When::After, text),
            Some(("before", step)) => (When::Before, step),
            Some(("after", step)) => (When::After, step),
            Some((other, _)) => return Err(format!("{other:?} is neither before nor after")),
        };
        if step.is_empty() {
            return Err("a fault needs the name of a step, such as after:drain".to_owned());
        }
        Ok(Self { when, step: step.to_owned() })
    }
}

/// Ends the process when this fault is due just before a step.
pub fn before(fault: Option<&Fault>, step: &str) {
    end(fault, When::Before, step);
}

/// Ends the process when this fault is due just after a step.
pub fn after(fault: Option<&Fault>, step: &str) {
    end(fault, When::After, step);
}

fn end(fault: Option<&Fault>, when: When, step: &str) {
    if fault.is_some_and(|fault| fault.when == when && fault.step == step) {
        tracing::warn!(step, "ending here, because a fault was asked for");
        std::process::exit(EXIT_STATUS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_a_step_and_a_side_of_it() {
        let fault = |text: &str| Fault::from_str(text);
        assert_eq!(fault("drain"), fault("after:drain"));
        assert_ne!(fault("before:drain"), fault("after:drain"));
        assert!(fault("during:drain").is_err());
        assert!(fault("before:").is_err());
    }
}
