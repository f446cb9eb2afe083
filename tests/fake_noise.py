"""Noise models of simulated studies: what disturbs runs on real machines, with a known truth.

They were fixed before the statistics were tuned to any of them, and must not be changed together
with the statistics: benchmarks/honesty.py counts how often these mislead the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numa_bench.analysis.stats.robust import Array


@dataclass(frozen=True)
class NoiseModel:
    """What differs from run to run; fractions unless said otherwise.

    `sd`: standard deviation between processes. `uneven`: standard deviation of the logarithm of a
    setting's noise. `drift`: change from the first run to the last. `outliers`: share of runs
    that are 5 to 10 % slow. `far`: noise of the last placement, `near`: of local, over that of the
    others. `slow_mode`: share of runs that are 4 % slow (two states of the clock). `shared`:
    standard deviation of an error that all runs of a block in one placement have in common.
    `freedom`: degrees of freedom of Student's t instead of normal noise (0: normal). `step`: change
    of all runs from the middle of the study on. `gpu_step`: the same on the first GPU only.
    `missing`: share of runs that failed.
    """

    sd: float = 0.01
    uneven: float = 0.0
    drift: float = -0.03
    outliers: float = 0.0
    far: float = 1.0
    near: float = 1.0
    slow_mode: float = 0.0
    shared: float = 0.0
    freedom: float = 0.0
    step: float = 0.0
    gpu_step: float = 0.0
    missing: float = 0.0

    def draw(self, shape: tuple[int, int, int, int], rng: np.random.Generator) -> Array:
        """Logarithms of factors, shape (models, GPUs, placements, repeats); NaN: no run.

        Each block of repeats is measured in an order of its own, which is what drift acts on.
        """
        _, _, placements, repeats = shape
        cells = int(np.prod(shape[:3]))
        place = np.stack([rng.permutation(cells) + b * cells for b in range(repeats)], axis=-1)
        when = place.reshape(shape) / max(1, cells * repeats - 1)
        scale = np.full(placements, self.sd)
        scale[0] *= self.near
        scale[-1] *= self.far
        unit = rng.standard_t(self.freedom, shape) if self.freedom else rng.standard_normal(shape)
        setting = np.exp(rng.normal(0, self.uneven, shape[:2]))[..., None, None]
        values = unit * setting * scale[:, None]
        slow = rng.random(shape) < self.outliers
        values += np.log1p(-rng.uniform(0.05, 0.10, shape) * slow)
        values += np.log1p(self.drift * when)
        values += np.log1p(-0.04 * (rng.random(shape) < self.slow_mode))
        values += rng.normal(0, self.shared, (placements, repeats)) if self.shared else 0.0
        values += np.log1p(self.step * (when > 0.5))
        values[:, :1] += np.log1p(self.gpu_step * (when[:, :1] > 0.5))
        return np.where(rng.random(shape) < self.missing, np.nan, values)


#: By name; each but the first has one thing more than 1 % of noise and 3 % of drift. Two states of
#: the clock mislead most where each state by itself is steady (0.3 %).
MODELS = {
    "clean": NoiseModel(drift=0.0),
    "real": NoiseModel(outliers=0.05),
    "uneven": NoiseModel(outliers=0.05, uneven=0.7),
    "noisy remote": NoiseModel(far=3.0),
    "noisy local": NoiseModel(near=3.0),
    "two modes": NoiseModel(sd=0.003, slow_mode=0.3),
    "shared": NoiseModel(shared=0.01),
    "heavy tails": NoiseModel(freedom=2.0),
    "step": NoiseModel(step=-0.05),
    "step of a GPU": NoiseModel(gpu_step=-0.05),
    "missing runs": NoiseModel(outliers=0.05, missing=0.2),
}
