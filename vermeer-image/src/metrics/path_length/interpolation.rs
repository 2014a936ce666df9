//! The way from one latent to another.

/// How to go from a latent a (t = 0) to a latent b (t = 1). Values are computed in double precision
/// and rounded once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// On a straight line: a + t (b - a). torch-fidelity's `lerp`, and StyleGAN's way in w.
    Lerp,
    /// On the unit sphere, from a/|a| to b/|b| at an even pace: StyleGAN's way in z, for generators
    /// that scale their latents themselves. Every result has length 1.
    Slerp,
    /// By the weights of that way on a and b as they are, so that lengths are kept:
    /// (sin((1 - t) ω) a + sin(t ω) b) / sin ω with the angle ω between them. On a straight line
    /// where they point the same or opposite ways. torch-fidelity's `slerp_any`.
    SlerpAny,
}

/// How near to 1 the size of a cosine makes two latents parallel, as torch-fidelity has it.
const PARALLEL: f64 = 1e-7;

impl Interpolation {
    /// The word of the metric's name, which is torch-fidelity's where it has the same.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lerp => "lerp",
            Self::Slerp => "slerp",
            Self::SlerpAny => "slerp_any",
        }
    }

    /// The latent at `t` between `a` and `b`, which have one length.
    pub fn between(self, a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
        let a: Vec<f64> = a.iter().copied().map(f64::from).collect();
        let b: Vec<f64> = b.iter().copied().map(f64::from).collect();
        let values = match self {
            Self::Lerp => weighted(&a, 1.0 - t, &b, t),
            Self::Slerp => {
                let (a, b) = (unit(&a), unit(&b));
                let cosine = dot(&a, &b).clamp(-1.0, 1.0);
                let across = unit(&weighted(&b, 1.0, &a, -cosine));
                let angle = t * cosine.acos();
                unit(&weighted(&a, angle.cos(), &across, angle.sin()))
            }
            Self::SlerpAny => {
                let cosine = dot(&unit(&a), &unit(&b)).clamp(-1.0, 1.0);
                if dot(&a, &a) == 0.0 || dot(&b, &b) == 0.0 || cosine.abs() > 1.0 - PARALLEL {
                    weighted(&a, 1.0 - t, &b, t)
                } else {
                    let angle = cosine.acos();
                    let sine = angle.sin();
                    let (from, to) = (((1.0 - t) * angle).sin(), (t * angle).sin());
                    weighted(&a, from / sine, &b, to / sine)
                }
            }
        };
        values.into_iter().map(|value| value as f32).collect()
    }
}

/// a times `of_a` plus b times `of_b`.
fn weighted(a: &[f64], of_a: f64, b: &[f64], of_b: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| of_a * a + of_b * b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The vector scaled to length 1; zeros stay.
fn unit(v: &[f64]) -> Vec<f64> {
    let length = dot(v, v).sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    v.iter().map(|x| scale * x).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f32], expected: [f64; 2]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn a_third_of_a_right_angle() {
        let (a, b) = ([2.0, 0.0], [0.0, 4.0]);
        let t = 1.0 / 3.0;
        close(
            &Interpolation::Lerp.between(&a, &b, t),
            [4.0 / 3.0, 4.0 / 3.0],
        );
        // cos 30° and sin 30°; then twice and four times as much.
        let (cos, sin) = (0.75f64.sqrt(), 0.5);
        close(&Interpolation::Slerp.between(&a, &b, t), [cos, sin]);
        close(
            &Interpolation::SlerpAny.between(&a, &b, t),
            [2.0 * cos, 4.0 * sin],
        );
    }

    #[test]
    fn latents_that_are_parallel_or_zero_give_numbers() {
        close(
            &Interpolation::Slerp.between(&[3.0, 0.0], &[5.0, 0.0], 0.5),
            [1.0, 0.0],
        );
        close(
            &Interpolation::SlerpAny.between(&[3.0, 0.0], &[5.0, 0.0], 0.5),
            [4.0, 0.0],
        );
        close(
            &Interpolation::SlerpAny.between(&[0.0, 0.0], &[0.0, 2.0], 0.25),
            [0.0, 0.5],
        );
        close(
            &Interpolation::Slerp.between(&[0.0, 0.0], &[0.0, 2.0], 0.0),
            [0.0, 0.0],
        );
    }
}
