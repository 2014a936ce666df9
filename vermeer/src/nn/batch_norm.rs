//! Batch normalisation with the mode said at the call.

use burn::module::Param;
use burn::module::RunningState;
use burn::prelude::*;
use vermeer_kernels::{batch_norm, batch_norm_train};

use super::Init;

/// Whether a pass belongs to training or to use.
///
/// Burn's own layer decides by the device of its input, which silently changes with what ran
/// before it; here the caller says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Statistics of the batch, and the running ones are updated.
    Train,
    /// Running statistics.
    Use,
}

/// Batch normalisation of `[n, channels, h, w]` (Ioffe and Szegedy, 2015).
///
/// `y = (x − mean) / √(var + 1e-5) · gamma + beta`. The running variance is the unbiased one
/// (n/(n−1)), as in PyTorch, with momentum 0.1; Burn's layer keeps the biased one.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[channels]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub beta: Param<Tensor<1>>,
    /// Running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
}

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl BatchNorm {
    /// A layer whose scale is drawn from N(1, `gamma_std`²) and whose shift is zero.
    pub fn new(init: &Init, channels: usize, gamma_std: f32) -> Self {
        Self {
            gamma: init.param("gamma", [channels], |random| {
                1.0 + gamma_std * random.normal()
            }),
            beta: init.constant("beta", [channels], 0.0),
            running_mean: RunningState::new(Tensor::zeros([channels], init.device())),
            running_var: RunningState::new(Tensor::ones([channels], init.device())),
        }
    }

    /// Normalises `x`; in [`Mode::Train`] also updates the running statistics.
    pub fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.normalise(x, mode, None)
    }

    /// As [`BatchNorm::forward`], with leaky ReLU behind; a slope of 0 is ReLU.
    pub fn forward_leaky(&self, x: Tensor<4>, mode: Mode, slope: f64) -> Tensor<4> {
        self.normalise(x, mode, Some(slope))
    }

    fn normalise(&self, x: Tensor<4>, mode: Mode, slope: Option<f64>) -> Tensor<4> {
        let affine = [self.gamma.val(), self.beta.val()];
        if mode == Mode::Use {
            let running = [self.running_mean.value(), self.running_var.value()];
            return batch_norm(x, running, affine, EPSILON, slope);
        }
        let [n, _, h, w] = x.dims();
        let count = (n * h * w) as f64;
        let result = batch_norm_train(x, affine, EPSILON, slope);
        let unbiased = result.variance.mul_scalar(count / (count - 1.0).max(1.0));
        blend(&self.running_mean, result.mean);
        blend(&self.running_var, unbiased);
        result.output
    }
}

fn blend(state: &RunningState<Tensor<1>>, value: Tensor<1>) {
    let old = state.value_sync();
    state.update(
        old.mul_scalar(1.0 - MOMENTUM)
            .add(value.mul_scalar(MOMENTUM))
            .detach(),
    );
    // An update is held back until the next synchronisation; without this line a checkpoint
    // would hold the statistics of one step earlier.
    state.value_sync();
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{TensorData, Tolerance};

    #[test]
    fn statistics_are_those_of_pytorch() {
        // torch 2.11: BatchNorm2d(1) on [[1, 2], [3, 6]]: output, running_mean and running_var
        // after one step. Mean 3, biased variance 3.5, unbiased 14/3.
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(&Init::new(0, &device), 1, 0.0);
        let x = Tensor::<4>::from_data(
            TensorData::new(vec![1.0f32, 2.0, 3.0, 6.0], [1, 1, 2, 2]),
            &device,
        );
        let y = norm.forward(x, Mode::Train);
        let s = 3.500_01f32.sqrt();
        y.into_data().assert_approx_eq::<f32>(
            &TensorData::new(vec![-2.0 / s, -1.0 / s, 0.0, 3.0 / s], [1, 1, 2, 2]),
            Tolerance::rel_abs(1e-5, 1e-6),
        );
        let mean: f32 = norm.running_mean.value().into_scalar();
        let var: f32 = norm.running_var.value().into_scalar();
        assert!(
            (mean - 0.3).abs() < 1e-6 && (var - (0.9 + 0.1 * 14.0 / 3.0)).abs() < 1e-6,
            "{mean} {var}"
        );
    }
}
