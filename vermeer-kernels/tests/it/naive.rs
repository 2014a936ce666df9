//! Convolution by its definition, in `f64`.

use vermeer_kernels::conv::Geometry;

/// Calls `f(input, output, weight)` with the three indices of every product of a convolution.
fn products(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let (cg, kg) = (g.c / g.groups, g.k / g.groups);
    for n in 0..g.n {
        for (oy, ox) in pairs(g.output) {
            for (ky, kx) in pairs(g.kernel) {
                let y = (oy * g.stride[0] + ky * g.dilation[0]).checked_sub(g.padding[0]);
                let x = (ox * g.stride[1] + kx * g.dilation[1]).checked_sub(g.padding[1]);
                let (Some(y), Some(x)) = (y, x) else { continue };
                if y >= g.input[0] || x >= g.input[1] {
                    continue;
                }
                for k in 0..g.k {
                    for c in 0..cg {
                        let channel = k / kg * cg + c;
                        f(
                            ((n * g.input[0] + y) * g.input[1] + x) * g.c + channel,
                            ((n * g.output[0] + oy) * g.output[1] + ox) * g.k + k,
                            ((k * cg + c) * g.kernel[0] + ky) * g.kernel[1] + kx,
                        );
                    }
                }
            }
        }
    }
}

fn pairs([h, w]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..h).flat_map(move |y| (0..w).map(move |x| (y, x)))
}

fn start(len: usize, bias: Option<&[f32]>) -> Vec<f64> {
    match bias {
        Some(bias) => (0..len).map(|i| f64::from(bias[i % bias.len()])).collect(),
        None => vec![0.0; len],
    }
}

pub(crate) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    let mut y = start(g.lengths()[1], bias);
    products(g, |i, o, k| y[o] += f64::from(x[i]) * f64::from(w[k]));
    y
}

pub(crate) fn backward(g: &Geometry, y: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    let mut x = start(g.lengths()[0], bias);
    products(g, |i, o, k| x[i] += f64::from(y[o]) * f64::from(w[k]));
    x
}

pub(crate) fn weight_gradient(g: &Geometry, x: &[f32], y: &[f32]) -> Vec<f64> {
    let mut w = vec![0.0; g.lengths()[2]];
    products(g, |i, o, k| w[k] += f64::from(x[i]) * f64::from(y[o]));
    w
}
