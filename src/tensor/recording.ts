/**
 * Work that is done again and again, as a training step is, without JavaScript. A recording notes the kernel calls of a device, in
 * sections, while they are made as ever; a replay makes them again, with the same tensors, which hold what they hold by then. On CUDA
 * a replay is one launch of a graph.
 *
 * What a replay cannot do is an error while it is noted: copies from and to the host. Numbers are those of the recording, except a
 * `HostNumber`, which is read at each replay. Whoever replays promises that nothing else would differ.
 */
import type { Device } from './device.js';
import { native } from './native.js';
import { keep } from './scope.js';
import type { Tensor } from './tensor.js';

/** A number among a kernel's arguments that may be another at each replay. */
export class HostNumber {
  /** Where the addon reads it. */
  readonly place = new Float64Array(new ArrayBuffer(8));
  constructor(value = 0) {
    this.value = value;
  }
  get value(): number {
    return this.place[0] as number;
  }
  set value(value: number) {
    this.place[0] = value;
  }
}

export class Recording {
  readonly #number: number;
  readonly #sections: string[] = [];
  readonly #held: Tensor[] = [];
  #listening = false;
  #disposed = false;

  constructor(readonly device: Device) {
    this.#number = native.record(device.index);
  }

  /** From now on kernel calls belong to this section; the one before ends. */
  begin(section: string): void {
    this.end();
    if (this.#sections.includes(section)) throw new Error(`section ${section} was recorded before`);
    native.listen(this.#number, true);
    this.#listening = true;
    this.#sections.push(section);
  }

  end(): void {
    if (this.#listening) native.listen(this.#number, false);
    this.#listening = false;
  }

  /** A tensor that replays read or write: it is disposed with the recording. Returns it. */
  hold<T extends Tensor>(tensor: T): T {
    this.#held.push(keep(tensor));
    return tensor;
  }

  /**
   * Takes the memory that replays need: what the recorded work had at most at a time. Nothing more is noted from then on.
   * @returns false when there is not as much: no replay is possible then
   */
  plan(): boolean {
    return native.plan(this.#number);
  }

  /** After `plan`: makes the kernel calls of a section again. Sections are replayed in the order of the recording, each once in a round. */
  replay(section: string): void {
    const index = this.#sections.indexOf(section);
    if (index < 0) throw new Error(`no section ${section} was recorded`);
    this.device.explained(() => {
      native.replay(this.#number, index);
    });
  }

  /** Gives the memory back; doing so twice is harmless. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.end();
    for (const tensor of this.#held) tensor.dispose();
    native.forget(this.#number);
  }
}
