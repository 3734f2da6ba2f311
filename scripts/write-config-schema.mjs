// Writes experiments/schema.json, which editors use to check and complete experiment files. Build first (npx tsc).
import { writeFileSync } from 'node:fs';
import { configSchemaJson } from '../dist/config/index.js';

writeFileSync(new URL('../experiments/schema.json', import.meta.url), configSchemaJson());
