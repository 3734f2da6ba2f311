/** Milliseconds that an update spends in each of its phases. It waits for the device between them, so that a phase has its own work only. */
import type { Device } from '../tensor/device.js';
import type { Phase } from './learner.js';

export class PhaseClock {
  readonly milliseconds = new Map<Phase, number>();
  #current: { phase: Phase; since: number } | undefined;

  constructor(readonly device: Device) {}

  /** Ends the phase before; undefined begins none. */
  enter(phase: Phase | undefined): void {
    this.device.synchronize();
    const now = performance.now();
    if (this.#current) {
      const { phase: before, since } = this.#current;
      this.milliseconds.set(before, (this.milliseconds.get(before) ?? 0) + now - since);
    }
    this.#current = phase && { phase, since: now };
  }
}
