export { checked, configFrom, configSchemaJson, configToYaml, loadConfig } from './load.js';
export { addFile, Layers } from './layers.js';
export type { Override } from './layers.js';
export { firstDifference, type Difference } from './difference.js';
export { softLabelCount } from './schema.js';
export type { Config } from './schema.js';
export { nearest } from './nearest.js';
