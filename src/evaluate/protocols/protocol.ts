/**
 * A protocol as data: which images make which templates, and what is compared with what. Readers of the field's metadata files make
 * it; measure.ts measures it, the same way for all.
 */
import { UserError } from '../../tensor/errors.js';
import type { TemplateMedia } from '../templates.js';

/** Comparisons of two templates each, by their numbers. */
export interface Comparisons {
  readonly first: Int32Array;
  readonly second: Int32Array;
  /** 1: of one person. */
  readonly genuine: Uint8Array;
}

/** One split or gallery of a task; a task's figures are the means over its parts. */
export interface SearchPart {
  readonly name: string;
  /** Templates. */
  readonly gallery: Int32Array;
  readonly probes: Int32Array;
}

export type Task =
  /** Is it one person? TAR at FAR. */
  | {
      readonly kind: 'verification';
      readonly name: string;
      readonly far: readonly number[];
      readonly parts: readonly (Comparisons & { readonly name: string })[];
    }
  /** The same with one threshold a fold: accuracy too. */
  | {
      readonly kind: 'folds';
      readonly name: string;
      readonly far: readonly number[];
      readonly comparisons: Comparisons;
      readonly fold: Int32Array;
    }
  /** Who is it? */
  | {
      readonly kind: 'identification';
      readonly name: string;
      readonly ranks: readonly number[];
      /** Empty where every probe has a mate. */
      readonly fpir: readonly number[];
      readonly averagePrecision: boolean;
      readonly parts: readonly SearchPart[];
    }
  /** Each probe against each other one of its person as the only mate among more and more distractors. */
  | {
      readonly kind: 'distractors';
      readonly name: string;
      readonly probes: Int32Array;
      readonly distractors: Int32Array;
      /** For each number of distractors which they are: a bit of each distractor's set. At most 31. */
      readonly sizes: readonly number[];
      readonly member: Int32Array;
      readonly far: readonly number[];
    };

export interface ProtocolSet {
  /** As it is called: IJB-C. */
  readonly title: string;
  /** What the set's folder is expected to hold, and how its figures are defined, in words. */
  readonly rule: string;
  /** Where the images are, and how they became crops. */
  readonly root: string;
  /** Paths below the root. */
  readonly files: readonly string[];
  /** Five points of each image, in a file, where the images are not aligned yet. */
  readonly landmarks: string | null;
  /** The images of each template by medium; undefined where each image is a template. */
  readonly media: readonly TemplateMedia[] | undefined;
  /** A template's name, for messages. */
  templateName(template: number): string;
  /** The person of each template, -1 for nobody's mate. */
  readonly people: Int32Array;
  readonly tasks: readonly Task[];
}

/** @throws UserError naming a task that the metadata leave nothing to measure by, before anything is embedded */
export function checkTasks({ title, root, people, tasks }: ProtocolSet): void {
  const fail = (where: string, expected: string) => {
    throw new UserError(`${title} in ${root}: ${where}: expected ${expected}`);
  };
  const checkKinds = (where: string, { genuine }: Comparisons) => {
    const same = genuine.reduce((sum, one) => sum + one, 0);
    if (same === 0 || same === genuine.length)
      fail(where, `genuine and impostor pairs, found ${same} and ${genuine.length - same}`);
  };
  for (const task of tasks)
    switch (task.kind) {
      case 'verification':
        for (const part of task.parts) checkKinds(`${task.name}, ${part.name}`, part);
        break;
      case 'folds': {
        checkKinds(task.name, task.comparisons);
        const folds = task.fold.reduce((most, one) => Math.max(most, one), 1) + 1;
        for (let fold = 0; fold < folds; fold++)
          if (!task.fold.includes(fold))
            fail(task.name, `pairs in each of ${folds} splits, found none in split ${fold + 1}`);
        break;
      }
      case 'identification': {
        const mated = task.parts.some(({ gallery, probes }) => {
          const entries = new Set(gallery);
          const counts = new Map<number, number>();
          for (const entry of gallery) {
            const person = people[entry] ?? -1;
            if (person >= 0) counts.set(person, (counts.get(person) ?? 0) + 1);
          }
          // A template is not compared with itself.
          return probes.some((probe) => (counts.get(people[probe] ?? -1) ?? 0) > Number(entries.has(probe)));
        });
        if (!mated) fail(task.name, 'a probe of somebody in the gallery, found none');
        break;
      }
      case 'distractors': {
        const persons = Array.from(task.probes, (probe) => people[probe] ?? -1);
        if (new Set(persons).size === persons.length) fail(task.name, 'two probes of one person, found none');
      }
    }
}

/** Where images are when not in their usual places below the set's folder. */
export interface ImagePlaces {
  /** The folder of the images. */
  readonly images?: string | undefined;
  /** The names of the images whose embeddings are given: nothing is listed then. */
  readonly names?: readonly string[] | undefined;
}
