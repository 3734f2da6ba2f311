export { Tape, noGrad, record, isRecording, type Backward } from './tape.js';
export { checkGradients, type GradientCheckOptions } from './gradient-check.js';
export { prelu } from './ops/prelu.js';
export { groupNormalize } from './ops/group-normalize.js';
export { marginSoftmax, type MarginSoftmax, type MarginSoftmaxOptions } from './ops/margin-softmax.js';
export { decorrelation } from './ops/decorrelation.js';
