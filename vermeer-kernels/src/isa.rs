//! Instruction sets, chosen at run time.

use std::sync::OnceLock;

/// The instructions a kernel is computed with.
///
/// Results of two sets differ in the last digits: the portable one rounds between product and
/// sum, the others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors of x86-64 with fused multiply-add.
    Avx512,
    /// 256-bit vectors of x86-64 with fused multiply-add.
    Avx2,
    /// Whatever the compiler makes for the target.
    Portable,
}

/// The environment variable that forces a set: `avx512`, `avx2` or `portable`.
pub const ISA_VARIABLE: &str = "VERMEER_ISA";

impl Isa {
    /// The set every kernel of this process uses: the one `VERMEER_ISA` names, else the widest
    /// this processor has.
    ///
    /// # Panics
    /// When `VERMEER_ISA` names a set that does not exist or that this processor lacks.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| match std::env::var(ISA_VARIABLE) {
            Ok(name) => Self::ALL
                .into_iter()
                .find(|isa| isa.name() == name && isa.here())
                .unwrap_or_else(|| {
                    let here = Self::available().map(Self::name).collect::<Vec<_>>();
                    panic!(
                        "{ISA_VARIABLE}={name}: this processor offers {}",
                        here.join(", ")
                    )
                }),
            Err(_) => Self::available()
                .next()
                .expect("the portable set is everywhere"),
        })
    }

    const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The sets this processor has, widest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.here())
    }

    /// The name `VERMEER_ISA` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn here(self) -> bool {
        match self {
            Self::Avx512 => is_x86_feature_detected!("avx512f") && Self::Avx2.here(),
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn here(self) -> bool {
        self == Self::Portable
    }
}
