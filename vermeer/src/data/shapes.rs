//! The world `shapes`: one coloured figure on a grey ground, with everything about it known.
//!
//! There is no noise: two images are equal only where their attributes are. The label is the
//! shape; attributes:
//!
//! | name | meaning | range |
//! |---|---|---|
//! | `shape` | number of the class | 0 to 6 |
//! | `hue` | share of the colour wheel, 0 is red | `[0, 1)` |
//! | `size` | radius of the circle around the figure as a share of the side | `[0.15, 0.4)` |
//! | `x`, `y` | centre as a share of the side, y pointing down | `[size, 1 - size)` |
//! | `rotation_degrees` | clockwise, within one period of the figure's symmetry; 0 for circle and ring | `[0, period)` |
//! | `background` | brightness of the ground | `[0, 0.35)` |

use std::sync::LazyLock;

use super::drawing::{Drawing, between, coverage, rgb, to_segment};
use super::world::Scene;
use crate::random::Stream;

/// The entry of the list of worlds.
pub(super) static SCENE: Scene = Scene {
    name: "shapes",
    classes,
    attributes: &[
        "shape",
        "hue",
        "size",
        "x",
        "y",
        "rotation_degrees",
        "background",
    ],
    channels: 3,
    draw,
};

/// One figure inside the circle of radius 1 around the origin, y pointing down.
struct Shape {
    name: &'static str,
    /// The rotation after which the figure looks the same; 0 when every rotation does.
    period_degrees: f32,
    outline: Outline,
}

enum Outline {
    /// Corners in order.
    Polygon(Vec<(f32, f32)>),
    Circle,
    /// A circle without the smaller circle that bites into its right side.
    Crescent,
    /// All points whose distance to the centre lies between the hole's radius and 1.
    Ring,
}

/// Width of the bars of the cross; with it, the corners lie on the unit circle.
const BAR: f32 = 0.34;
/// Radius of the inner corners of the star.
const NOTCH: f32 = 0.45;
/// Radius of the hole of the ring.
const HOLE: f32 = 0.55;
/// Centre and radius of the bite of the crescent.
const BITE: (f32, f32) = (0.5, 0.8);

static SHAPES: LazyLock<[Shape; 7]> = LazyLock::new(|| {
    let end = (1.0 - BAR * BAR).sqrt();
    let arm = [(-BAR, -BAR), (-BAR, -end), (BAR, -end)];
    let cross = (0..4).flat_map(|turn| arm.map(|corner| rotate(corner, 90.0 * turn as f32)));
    [
        ("circle", 0.0, Outline::Circle),
        ("crescent", 360.0, Outline::Crescent),
        ("cross", 90.0, Outline::Polygon(cross.collect())),
        ("ring", 0.0, Outline::Ring),
        ("square", 90.0, Outline::Polygon(rays(&[1.0; 4], 45.0))),
        (
            "star",
            72.0,
            Outline::Polygon(rays(&[1.0, NOTCH].repeat(5), 0.0)),
        ),
        ("triangle", 120.0, Outline::Polygon(rays(&[1.0; 3], 0.0))),
    ]
    .map(|(name, period_degrees, outline)| Shape {
        name,
        period_degrees,
        outline,
    })
});

/// A point turned clockwise around the origin.
fn rotate((x, y): (f32, f32), degrees: f32) -> (f32, f32) {
    let (sin, cos) = degrees.to_radians().sin_cos();
    (x * cos - y * sin, x * sin + y * cos)
}

/// Corners at these radii, evenly spread clockwise from `start` degrees right of the top.
fn rays(radii: &[f32], start: f32) -> Vec<(f32, f32)> {
    let step = 360.0 / radii.len() as f32;
    let corner = |(i, &radius): (usize, &f32)| rotate((0.0, -radius), start + step * i as f32);
    radii.iter().enumerate().map(corner).collect()
}

impl Outline {
    /// Signed distance to the edge, negative inside.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let radius = x.hypot(y);
        match self {
            Outline::Polygon(corners) => to_polygon(corners, x, y),
            Outline::Circle => radius - 1.0,
            Outline::Crescent => (radius - 1.0).max(BITE.1 - (x - BITE.0).hypot(y)),
            Outline::Ring => (radius - 1.0).max(HOLE - radius),
        }
    }
}

/// Signed distance to the edge of a polygon; inside is where a ray crosses it an odd number of
/// times.
fn to_polygon(corners: &[(f32, f32)], x: f32, y: f32) -> f32 {
    let mut inside = false;
    let mut nearest = f32::INFINITY;
    for (i, &a) in corners.iter().enumerate() {
        let b = corners[(i + 1) % corners.len()];
        nearest = nearest.min(to_segment((x, y), a, b));
        if (a.1 > y) != (b.1 > y) && x < a.0 + (b.0 - a.0) * (y - a.1) / (b.1 - a.1) {
            inside = !inside;
        }
    }
    if inside { -nearest } else { nearest }
}

fn classes() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

/// Draws one figure.
fn draw(class: usize, side: usize, _channels: usize, random: &mut Stream) -> Drawing {
    let shape = &SHAPES[class];
    let hue = random.uniform();
    let size = between(random, 0.15, 0.4);
    let x = between(random, size, 1.0 - size);
    let y = between(random, size, 1.0 - size);
    let rotation_degrees = shape.period_degrees * random.uniform();
    let background = between(random, 0.0, 0.35);

    let coverage = coverage(side, |px, py| {
        let (u, v) = rotate(((px - x) / size, (py - y) / size), -rotation_degrees);
        shape.outline.distance(u, v) * size
    });
    let attributes = vec![class as f32, hue, size, x, y, rotation_degrees, background];
    let ink = rgb(hue, 0.85, 0.95);
    Drawing {
        coverage,
        ink,
        ground: [background; 3],
        noise: 0.0,
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Source, Split};
    use super::super::world::World;
    use super::*;

    fn outline(name: &str) -> &'static Outline {
        &SHAPES
            .iter()
            .find(|shape| shape.name == name)
            .unwrap()
            .outline
    }

    #[test]
    fn distances_by_hand() {
        let half = 0.5f32.sqrt();
        for (name, point, expected) in [
            ("circle", (0.0, 0.0), -1.0),
            ("circle", (0.0, 3.0), 2.0),
            ("ring", (0.0, 0.0), 0.55),
            ("ring", (0.775, 0.0), -0.225),
            ("crescent", (0.5, 0.0), 0.8),
            ("crescent", (-1.0, 0.0), 0.0),
            ("square", (0.0, 0.0), -half),
            ("square", (half + 0.3, 0.0), 0.3),
            // An equilateral triangle's inner circle has half the radius of its outer one.
            ("triangle", (0.0, 0.0), -0.5),
            ("triangle", (0.0, -1.5), 0.5),
            ("star", (0.0, -1.25), 0.25),
            // The nearest edges of the cross's middle are its inner corners.
            ("cross", (0.0, 0.0), -0.34 * 2.0f32.sqrt()),
            ("cross", (0.0, -1.34), 1.34 - (1.0f32 - 0.34 * 0.34).sqrt()),
        ] {
            let got = outline(name).distance(point.0, point.1);
            assert!(
                (got - expected).abs() < 1e-5,
                "{name} {point:?}: {got} for {expected}"
            );
        }
    }

    #[test]
    fn figures_fill_the_unit_circle_and_repeat_after_their_period() {
        for shape in SHAPES.iter() {
            let mut farthest = 0.0f32;
            for row in -120..=120 {
                for column in -120..=120 {
                    let (x, y) = (column as f32 / 100.0, row as f32 / 100.0);
                    let distance = shape.outline.distance(x, y);
                    if distance < 0.0 {
                        farthest = farthest.max(x.hypot(y));
                    }
                    let (u, v) = rotate((x, y), shape.period_degrees);
                    assert!(
                        (shape.outline.distance(u, v) - distance).abs() < 1e-4,
                        "{}",
                        shape.name
                    );
                }
            }
            assert!(
                (0.95..=1.0).contains(&farthest),
                "{}: {farthest}",
                shape.name
            );
        }
    }

    #[test]
    fn attributes_say_what_is_in_the_picture() {
        let world = World::parse("world:shapes?size=64&count=70&seed=2", Split::All).unwrap();
        for index in 0..70 {
            let sample = world.get(index).unwrap();
            let [shape, hue, size, x, y, _, background] = sample.attributes[..] else {
                panic!("seven attributes")
            };
            assert_eq!(Some(shape as u32), sample.label);
            let unit = sample.image.to_unit_chw();
            assert!(unit.iter().all(|v| (0.0..=1.0).contains(v)));
            let ink = rgb(hue, 0.85, 0.95);
            let mut painted = 0;
            for row in 0..64 {
                for column in 0..64 {
                    let pixel = [0, 1, 2].map(|c| unit[(c * 64 + row) * 64 + column]);
                    let like = |colour: [f32; 3]| {
                        pixel
                            .iter()
                            .zip(colour)
                            .all(|(p, c)| (p - c).abs() < 0.5 / 255.0 + 1e-6)
                    };
                    painted += usize::from(like(ink));
                    let (px, py) = ((column as f32 + 0.5) / 64.0, (row as f32 + 0.5) / 64.0);
                    // Beyond the figure's circle and its softened edge lies only ground.
                    if (px - x).hypot(py - y) > size + 1.0 / 64.0 {
                        assert!(like([background; 3]), "image {index} at {column}, {row}");
                    }
                }
            }
            assert!(
                painted > 10,
                "image {index} shows its colour in {painted} pixels"
            );
        }
    }
}
