// All cases of `turl bench`, family by family. A kernel without a case fails src/bench/cases.test.ts.
import type { KernelCase, Sizes } from '../case.js';
import { augmentCases } from './augment.js';
import { batchNormCases } from './batch-norm.js';
import { convolutionCases } from './convolution.js';
import { elementwiseCases } from './elementwise.js';
import { embeddingCases } from './embedding.js';
import { marginSoftmaxCases } from './margin-softmax.js';
import { matmulCases } from './matmul.js';
import { memoryCases } from './memory.js';
import { optimizerCases } from './optimizer.js';
import { poolingCases } from './pooling.js';
import { preluCases } from './prelu.js';
import { rateCases } from './rate.js';
import { reduceCases } from './reduce.js';

/** In the order in which they run. */
export const casesOf = (sizes: Sizes): readonly KernelCase[] =>
  [
    rateCases,
    memoryCases,
    elementwiseCases,
    reduceCases,
    preluCases,
    batchNormCases,
    poolingCases,
    augmentCases,
    optimizerCases,
    embeddingCases,
    marginSoftmaxCases,
    matmulCases,
    convolutionCases,
  ].flatMap((family) => family(sizes));
