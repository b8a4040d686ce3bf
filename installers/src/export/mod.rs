//! Export: a plan in a form that other programs run.

pub mod sh;
