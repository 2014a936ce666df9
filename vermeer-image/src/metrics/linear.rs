//! Dense linear algebra in double precision, by the library faer. Matrices are row-major slices.

use std::sync::Once;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par, Side};

use crate::error::{ImageError, Result};

fn view(values: &[f64], [rows, columns]: [usize; 2]) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(values, rows, columns)
}

/// Into how many parts work is divided. It is not the number of threads, so that no value depends
/// on that.
const PARTS: usize = 8;

fn parallel() -> Par {
    static ONCE: Once = Once::new();
    // The decompositions below take it from here.
    ONCE.call_once(|| faer::set_global_parallelism(Par::rayon(PARTS)));
    Par::rayon(PARTS)
}

fn failed(what: &str) -> ImageError {
    ImageError::Shape(format!(
        "the {what} of a matrix did not converge; are all features finite?"
    ))
}

/// The eigenvalues of a symmetric matrix `[n, n]`, ascending.
pub(crate) fn eigenvalues(matrix: &[f64], n: usize) -> Result<Vec<f64>> {
    parallel();
    view(matrix, [n, n])
        .self_adjoint_eigenvalues(Side::Lower)
        .map_err(|_| failed("eigenvalues"))
}

/// The eigenvalues of a symmetric matrix `[n, n]`, ascending, and its eigenvectors `[n, n]`, one in
/// each column.
pub fn eigen(matrix: &[f64], n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    parallel();
    let found = view(matrix, [n, n])
        .self_adjoint_eigen(Side::Lower)
        .map_err(|_| failed("eigenvectors"))?;
    let values = found.S().column_vector().iter().copied().collect();
    let vectors = found.U();
    let mut rows = Vec::with_capacity(n * n);
    for i in 0..n {
        rows.extend((0..n).map(|j| vectors[(i, j)]));
    }
    Ok((values, rows))
}

/// The real parts of the square roots of the eigenvalues of any square matrix `[n, n]`, summed.
pub(crate) fn sum_of_roots(matrix: &[f64], n: usize) -> Result<f64> {
    parallel();
    let values = view(matrix, [n, n])
        .eigenvalues()
        .map_err(|_| failed("eigenvalues"))?;
    Ok(values
        .iter()
        // The real part of the principal root of a + bi.
        .map(|value| {
            (0.5 * (value.re.hypot(value.im) + value.re))
                .max(0.0)
                .sqrt()
        })
        .sum())
}

/// `[m, k] · [k, n]`.
pub fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    multiply(view(a, [m, k]), view(b, [k, n]))
}

/// `[m, k] · [n, k]ᵀ`.
pub fn product_transposed(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    multiply(view(a, [m, k]), view(b, [n, k]).transpose())
}

/// `[k, m]ᵀ · [k, n]`.
pub fn transposed_product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    multiply(view(a, [k, m]).transpose(), view(b, [k, n]))
}

fn multiply(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Vec<f64> {
    let (m, n) = (a.nrows(), b.ncols());
    // The transposed result in columns is the result in rows.
    let mut out = Mat::<f64>::zeros(n, m);
    matmul(
        out.as_mut(),
        Accum::Replace,
        b.transpose(),
        a.transpose(),
        1.0,
        parallel(),
    );
    let mut values = Vec::with_capacity(m * n);
    for column in out.col_iter() {
        values.extend(column.iter());
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2 1; 1 2 has the eigenvalues 1 and 3 and the eigenvectors (1, -1) and (1, 1), over √2.
    const SYMMETRIC: [f64; 4] = [2.0, 1.0, 1.0, 2.0];

    #[test]
    fn eigenvalues_and_vectors_of_a_known_matrix() {
        let values = eigenvalues(&SYMMETRIC, 2).unwrap();
        let (same, vectors) = eigen(&SYMMETRIC, 2).unwrap();
        for values in [values, same] {
            assert!((values[0] - 1.0).abs() < 1e-14 && (values[1] - 3.0).abs() < 1e-14);
        }
        assert!((vectors[0] + vectors[2]).abs() < 1e-14);
        assert!((vectors[1] - vectors[3]).abs() < 1e-14);
        assert!((vectors[1].abs() - 0.5f64.sqrt()).abs() < 1e-14);
    }

    #[test]
    fn roots_of_a_matrix_that_is_not_symmetric() {
        // 1 5; 0 4: eigenvalues 1 and 4. 0 -2; 2 0: ±2i, whose roots are 1 ± i.
        assert!((sum_of_roots(&[1.0, 5.0, 0.0, 4.0], 2).unwrap() - 3.0).abs() < 1e-12);
        assert!((sum_of_roots(&[0.0, -2.0, 2.0, 0.0], 2).unwrap() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn products_in_rows() {
        let (a, b) = (
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            [1.0, 0.0, 2.0, 1.0, 0.0, 3.0],
        );
        // [2, 3] · [3, 2], by hand.
        assert_eq!(product(&a, &b, [2, 3, 2]), [5.0, 11.0, 14.0, 23.0]);
        // [2, 3] · [2, 3]ᵀ and [2, 3]ᵀ · [2, 3].
        assert_eq!(
            product_transposed(&a, &b, [2, 3, 2]),
            [7.0, 10.0, 16.0, 22.0]
        );
        assert_eq!(
            transposed_product(&a, &b, [3, 2, 3]),
            [5.0, 0.0, 14.0, 7.0, 0.0, 19.0, 9.0, 0.0, 24.0]
        );
    }
}
