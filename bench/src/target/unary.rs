//! A connection that makes one call per operation.

use std::{collections::VecDeque, future::Future};

use super::{Answer, Connection, Issued, Outcome, TargetError};
use crate::load::workload::Operation;

/// Makes one system's unary call.
pub trait Caller: Send {
    /// Carries out one operation.
    fn call(&mut self, operation: Operation) -> impl Future<Output = Result<Outcome, TargetError>> + Send;
}

/// A client that makes calls one after the other. With a window of more than one operation
/// they wait in line, which is not what a window is for: use more clients instead.
#[derive(Debug)]
pub struct Unary<C> {
    caller: C,
    waiting: VecDeque<Issued>,
}

impl<C: Caller> Unary<C> {
    /// A connection that calls through `caller`.
    pub fn new(caller: C) -> Self {
        Self { caller, waiting: VecDeque::with_capacity(1) }
    }
}

impl<C: Caller> Connection for Unary<C> {
    async fn send(&mut self, batch: &mut Vec<Issued>) -> Result<(), TargetError> {
        self.waiting.extend(batch.drain(..));
        Ok(())
    }

    async fn receive(&mut self, answers: &mut Vec<Answer>) -> Result<(), TargetError> {
        let Some(Issued { operation, ticket }) = self.waiting.pop_front() else {
            return Ok(());
        };
        let outcome = match self.caller.call(operation).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        answers.push(Answer { ticket, outcome });
        Ok(())
    }
}
