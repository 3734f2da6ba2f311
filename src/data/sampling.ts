/** Which image stands where in the endless stream of batches; a function of seed and place alone, so that any step can be made first. */
import { permuted, purposes } from '../tensor/philox.js';
import { UserError } from '../tensor/errors.js';
import type { FaceSet } from './face-set.js';

/** An image of a batch, and the number that its draws are keyed with: the same image never has the same one twice. */
export type Sampling = (step: number, i: number) => { epoch: number; image: number };

/** Epoch after epoch, each a random order of all images. */
export function shuffledSampling(faces: FaceSet, batchSize: number, seed: number): Sampling {
  return (step, i) => {
    const position = step * batchSize + i;
    const epoch = Math.floor(position / faces.images);
    return {
      epoch,
      image: permuted(position % faces.images, faces.images, seed, purposes.shuffle, epoch),
    };
  };
}

/**
 * Batches of P identities with Q images each, side by side. The identities go round in random orders, of which each round leaves out the
 * last ones that make no whole batch: no batch has an identity twice. An identity shows Q of its images in a random order, new in each
 * round, over again when it has fewer.
 */
export function balancedSampling(
  faces: FaceSet,
  { identities: perBatch, images: each }: { identities: number; images: number },
  seed: number,
): Sampling {
  const groups = faces.imagesByIdentity();
  const count = groups.length;
  if (perBatch > count)
    throw new UserError(
      `data.sampling: expected at most the ${count} identities there are in a batch, got ${perBatch}`,
    );
  const batches = Math.floor(count / perBatch);
  return (step, i) => {
    const round = Math.floor(step / batches);
    const turn = (step % batches) * perBatch + Math.floor(i / each);
    const identity = permuted(turn, count, seed, purposes.balancedIdentity, round);
    const images = groups[identity] ?? [];
    const place = i % each;
    const order = (round * count + identity) % 2 ** 32;
    const image =
      images[permuted(place % images.length, images.length, seed, purposes.balancedImage, order)] ?? 0;
    return { epoch: round * each + place, image };
  };
}
