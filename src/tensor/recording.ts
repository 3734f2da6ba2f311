import type { Device, KernelArgument, Storage } from './device.js';
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
  /** The number itself. */
  get value(): number {
    return this.place[0] as number;
  }
  set value(value: number) {
    this.place[0] = value;
  }
}

/**
 * Work that is done again and again, as a training step is, without JavaScript. A recording notes the kernel calls of a device, in
 * sections, while they are made as ever; a replay makes them again, with the same tensors, which hold what they hold by then. The memory
 * of those is kept, whoever disposes of them. On CUDA a replay is one launch of a graph.
 *
 * What a replay cannot do is an error while it is noted: copies from and to the host, and replays. Numbers are those of the recording,
 * except a `HostNumber`, which is read at each replay. Whoever replays promises that nothing else would differ.
 */
export class Recording {
  readonly #number: number;
  readonly #sections: string[] = [];
  readonly #held: Tensor[] = [];
  /** Memory that is not its own: taken before, or between two sections. */
  readonly #outside = new Set<Storage>();
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
    this.device.recording = this;
    this.#sections.push(section);
  }

  /** Kernel calls belong to no section until the next begins. */
  end(): void {
    if (!this.#listening) return;
    native.listen(this.#number, false);
    this.#listening = false;
    this.device.recording = undefined;
  }

  /** For the device: a kernel was called with these arguments. */
  note(args: readonly KernelArgument[]): void {
    for (const one of args.flat())
      if (typeof one === 'object' && 'storage' in one) {
        const { storage } = one;
        if (storage.recording === this || this.#outside.has(storage)) continue;
        storage.retain();
        this.#outside.add(storage);
      }
  }

  /** A tensor that replays read or write: it is disposed with the recording. Returns it. */
  hold<T extends Tensor>(tensor: T): T {
    this.#held.push(keep(tensor));
    return tensor;
  }

  /**
   * Takes the memory that replays need: what the recorded work had at most at a time. The section under way ends, and nothing more is
   * noted.
   * @returns false when there is not as much: no replay is possible then
   */
  plan(): boolean {
    this.end();
    return native.plan(this.#number);
  }

  /** After `plan`: makes the kernel calls of a section again. Sections are replayed in the order of the recording, each once in a round. */
  replay(section: string): void {
    const index = this.#sections.indexOf(section);
    if (index < 0) throw new Error(`no section ${section} was recorded`);
    const { recording } = this.device;
    if (recording && recording !== this)
      throw new Error('a replay while other work is recorded: a replay of that would not do it');
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
    for (const storage of this.#outside) storage.release();
    native.forget(this.#number);
  }
}
