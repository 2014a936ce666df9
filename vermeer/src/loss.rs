//! Losses as functions of tensors, each checked against values from PyTorch.

pub mod adversarial;
pub mod likelihood;
pub mod logistic_mixture;
