//! Channels between subtasks: (edge, source subtask, destination subtask) with credit.

pub mod message;
