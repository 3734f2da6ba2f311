/**
 * Work on a device that is done again and again with other data, in rounds: plain in the first, recorded in the second, replayed from
 * the third on (src/tensor/recording.ts). A round uploads, computes and reads back; what it computes is the same work, so replayed rounds
 * give the same bits.
 */
import type { Device } from '../tensor/device.js';
import type { HostArray } from '../tensor/dtype.js';
import { Recording } from '../tensor/recording.js';
import type { Shape } from '../tensor/shape.js';
import { tensor, type Tensor } from '../tensor/tensor.js';

/** What is given to the device. */
export interface Upload {
  readonly array: HostArray;
  readonly shape: Shape;
}
type Tensors = Readonly<Record<string, Tensor | undefined>>;

export class Repetition<Stretch extends string = string> {
  /** Whether rounds are replayed at all. */
  replays = true;
  /** Told when a stretch begins. The device may not have done what it was given in the one before. */
  onStretch: ((stretch: Stretch) => void) | undefined;
  #recording: Recording | undefined;
  /** What the round is for the recording; rounds of another kind than the one before are plain. */
  #mode: 'plain' | 'recorded' | 'replayed' = 'plain';
  #kind: string | undefined;
  #recordedKind: string | undefined;
  /** Uploads and computations of the round so far, and what the recorded one had of each. */
  #uploads = 0;
  #computations = 0;
  readonly #uploaded: Record<string, Tensor>[] = [];
  readonly #computed: Tensors[] = [];

  constructor(readonly device: Device) {}

  /** A round begins. Those of one kind differ in nothing but what is uploaded and in `HostNumber`s; undefined is of no kind. */
  begin(kind: string | undefined): void {
    this.#uploads = this.#computations = 0;
    this.#mode = this.replays && kind !== undefined ? this.#modeOf(kind) : 'plain';
    if (!this.replays) this.forget();
    this.#kind = kind;
  }

  #modeOf(kind: string): 'plain' | 'recorded' | 'replayed' {
    if (this.#recordedKind === kind && this.#recording) {
      if (this.#recording.plan()) return 'replayed';
      this.replays = false; // no memory for it
    } else if (this.#kind === kind) {
      this.forget();
      this.#recording = new Recording(this.device);
      this.#recordedKind = kind;
      return 'recorded';
    }
    return 'plain';
  }

  /** Arrays on the device, by name. In a plain round the scope around owns them. */
  upload<Name extends string>(arrays: Readonly<Record<Name, Upload>>): Record<Name, Tensor> {
    const entries = Object.entries<Upload>(arrays);
    const index = this.#uploads++;
    if (this.#mode === 'replayed') {
      const uploaded = this.#uploaded[index] as Record<Name, Tensor>;
      for (const [name, { array }] of entries) uploaded[name as Name].set(array);
      return uploaded;
    }
    const made = entries.map(([name, { array, shape }]) => {
      const one = tensor(array, shape, { device: this.device, label: name });
      return [name, this.#mode === 'recorded' ? (this.#recording as Recording).hold(one) : one] as const;
    });
    const uploaded = Object.fromEntries(made) as Record<Name, Tensor>;
    if (this.#mode === 'recorded') this.#uploaded[index] = uploaded;
    return uploaded;
  }

  /**
   * What `f` computes on the device, entering `stretches` in turn. It copies nothing to the host or from it, and depends on nothing that
   * may be another in the next round but uploads and `HostNumber`s: in a replayed round its kernels run without it.
   */
  compute<T extends Tensors>(stretches: readonly Stretch[], f: (enter: (stretch: Stretch) => void) => T): T {
    const index = this.#computations++;
    const name = (stretch: Stretch) => `${index} ${stretch}`;
    if (this.#mode === 'replayed') {
      for (const stretch of stretches) {
        this.onStretch?.(stretch);
        this.#recording?.replay(name(stretch));
      }
      return this.#computed[index] as T;
    }
    const recording = this.#mode === 'recorded' ? this.#recording : undefined;
    let result: T;
    try {
      result = f((stretch) => {
        recording?.end();
        this.onStretch?.(stretch);
        recording?.begin(name(stretch));
      });
    } catch (error) {
      this.forget();
      throw error;
    }
    if (recording) {
      recording.end();
      for (const one of Object.values(result)) if (one) recording.hold(one);
      this.#computed[index] = result;
    }
    return result;
  }

  /** Frees what replays need; the next rounds begin anew. */
  forget(): void {
    this.#recording?.dispose();
    this.#recording = undefined;
    this.#mode = 'plain';
    this.#kind = this.#recordedKind = undefined;
    this.#uploaded.length = this.#computed.length = 0;
  }
}
