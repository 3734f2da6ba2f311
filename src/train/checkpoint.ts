/** From what learns to a checkpoint and back. */
import { sameShape } from '../tensor/shape.js';
import type { FaceSet } from '../data/face-set.js';
import { UserError } from '../tensor/errors.js';
import { hostArray, type DType, type HostArray } from '../tensor/dtype.js';
import type { Learner } from './learner.js';
import type { RunDirectory } from './run-directory.js';
import type { Tensor } from '../tensor/tensor.js';
import { bytesInParts, readSafetensorsMetadata, readTensors, type TensorSource } from './safetensors.js';

/** What a file keeps of tensors; each is read from its device when it is written. */
export function tensorSources(state: ReadonlyMap<string, Tensor>): Map<string, TensorSource> {
  return new Map(
    [...state].map(([name, t]) => [
      name,
      { dtype: t.dtype, shape: t.shape, data: () => bytesInParts(t.toBits()) },
    ]),
  );
}

/** Writes the state after `step` updates, with what else is to be said of it; returns the file. */
export function saveCheckpoint(
  run: RunDirectory,
  learner: Learner,
  step: number,
  about: { parts?: 'network'; training_set?: string } = {},
): string {
  const metadata = { identities: String(learner.identities), ...about };
  return run.saveCheckpoint(step, tensorSources(learner.state()), metadata);
}

/**
 * Sets tensors from the file's of these names, each as it is read: beside a head of gigabytes there is no room for the whole file.
 * @param only the file must have no others
 */
function setFrom(file: string, state: ReadonlyMap<string, Tensor>, only: boolean): void {
  const missing = new Set(state.keys());
  const faults: string[] = [];
  readTensors(file, (name, { dtype, shape, data }) => {
    const t = state.get(name);
    missing.delete(name);
    if (!t) {
      if (only) faults.push(`${name} belongs to another experiment`);
    } else if (dtype !== t.dtype || !sameShape(shape, t.shape))
      faults.push(`expected ${name} to be ${t.toString()}, found ${dtype} [${shape.join(', ')}]`);
    else t.set(viewAs(dtype, data));
  });
  for (const name of missing)
    faults.unshift(`expected a tensor ${name}, found none: it is of another experiment`);
  if (faults[0] !== undefined) throw new UserError(`${file}: ${faults[0]}`);
}

/** The numbers that bytes from the beginning of their memory are. */
function viewAs(dtype: DType, { buffer }: Uint8Array): HostArray {
  const View = hostArray(dtype, 0).constructor as new (memory: ArrayBufferLike) => HostArray;
  return new View(buffer);
}

/**
 * Sets what learns from a checkpoint file.
 * @throws UserError when the file is damaged or belongs to another experiment; what learns is of no use then
 */
export function loadCheckpoint(file: string, learner: Learner, step: number): void {
  setFrom(file, learner.state(), true);
  learner.steps = step;
}

/**
 * Sets the network and what the loss learned from a checkpoint of any experiment with the same ones, or the network alone from one
 * that was imported; optimisers start anew.
 */
export function loadWeights(file: string, learner: Learner): void {
  const wanted = readSafetensorsMetadata(file)['parts'] === 'network' ? /^network\./ : /^(network|loss)\./;
  setFrom(file, new Map([...learner.state()].filter(([name]) => wanted.test(name))), false);
}

/** @throws UserError when the checkpoint `file` of the run says that it was trained on other images, or on the same in another order */
export function checkTrainingSet(run: string, file: string, set: FaceSet): void {
  const { training_set: known } = readSafetensorsMetadata(file);
  if (known !== undefined && known !== set.digest())
    throw new UserError(
      `--resume ${run}: expected the training images that it began with, found others (${set.images} of ${set.identities} identities); ` +
        `start from its weights with --set from=${run}`,
    );
}

/** The number of identities that a checkpoint was trained on. */
export function checkpointIdentities(file: string): number {
  const identities = Number(readSafetensorsMetadata(file)['identities']);
  if (!Number.isInteger(identities))
    throw new UserError(`${file}: expected the number of identities, found none`);
  return identities;
}
