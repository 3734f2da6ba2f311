/** From what learns to a checkpoint and back. */
import { sameShape } from '../tensor/shape.js';
import type { FaceSet } from '../data/face-set.js';
import { UserError } from '../tensor/errors.js';
import { hostArray } from '../tensor/dtype.js';
import type { Learner } from './learner.js';
import type { RunDirectory } from './run-directory.js';
import type { Tensor } from '../tensor/tensor.js';
import {
  bytesInParts,
  readSafetensors,
  readSafetensorsMetadata,
  type StoredTensor,
  type TensorSource,
} from './safetensors.js';

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

/** Sets a tensor from the file's one of that name. */
function setFrom(file: string, name: string, t: Tensor, stored: StoredTensor | undefined): void {
  if (!stored)
    throw new UserError(`${file}: expected a tensor ${name}, found none: it is of another experiment`);
  if (stored.dtype !== t.dtype || !sameShape(stored.shape, t.shape))
    throw new UserError(
      `${file}: expected ${name} to be ${t.toString()}, found ${stored.dtype} [${stored.shape.join(', ')}]`,
    );
  const array = hostArray(t.dtype, t.size);
  new Uint8Array(array.buffer).set(stored.data);
  t.set(array);
}

/**
 * Sets what learns from a checkpoint file.
 * @throws UserError when the file is damaged or belongs to another experiment
 */
export function loadCheckpoint(file: string, learner: Learner, step: number): void {
  const { tensors } = readSafetensors(file);
  const state = learner.state();
  for (const [name, t] of state) setFrom(file, name, t, tensors.get(name));
  for (const name of tensors.keys())
    if (!state.has(name)) throw new UserError(`${file}: ${name} belongs to another experiment`);
  learner.steps = step;
}

/**
 * Sets the network and what the loss learned from a checkpoint of any experiment with the same ones, or the network alone from one
 * that was imported; optimisers start anew.
 */
export function loadWeights(file: string, learner: Learner): void {
  const { tensors, metadata } = readSafetensors(file);
  const wanted = metadata['parts'] === 'network' ? /^network\./ : /^(network|loss)\./;
  for (const [name, t] of learner.state()) if (wanted.test(name)) setFrom(file, name, t, tensors.get(name));
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
