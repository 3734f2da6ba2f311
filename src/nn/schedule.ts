/** A learning-rate schedule: what `rateFactor` makes of the step. */
export interface Schedule {
  /** Its shape after the warm-up. */
  readonly name: 'step' | 'polynomial' | 'cosine';
  /** Steps of linear growth: the first step has 1 / warmupSteps of the rate. */
  readonly warmupSteps: number;
  /** step: shares of the training at which the factor is multiplied by `gamma`. */
  readonly milestones: readonly number[];
  /** step: what it is multiplied by there. */
  readonly gamma: number;
  /** polynomial: the exponent. */
  readonly power: number;
  /** polynomial, cosine: the factor at the end. */
  readonly final: number;
}

/** The factor by which the base rate is multiplied at `step` (from 0) of `steps`; beyond them it is that of the end. */
export function rateFactor(schedule: Schedule, step: number, steps: number): number {
  const { name, warmupSteps, milestones, gamma, power, final } = schedule;
  if (step < warmupSteps) return (step + 1) / warmupSteps;
  const before = name === 'step' ? 0 : warmupSteps;
  const passed = Math.min(1, (step - before) / Math.max(1, steps - before));
  switch (name) {
    case 'step':
      return gamma ** milestones.filter((milestone) => passed >= milestone).length;
    case 'polynomial':
      return final + (1 - final) * (1 - passed) ** power;
    case 'cosine':
      return final + ((1 - final) * (1 + Math.cos(Math.PI * passed))) / 2;
  }
}
