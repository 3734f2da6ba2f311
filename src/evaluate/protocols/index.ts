/** The protocols by name. */
import { UserError } from '../../tensor/errors.js';
import { openMegaFace, openTinyFace } from './gallery-probe.js';
import { openIjb } from './ijb.js';
import { checkTasks, type ImagePlaces, type ProtocolSet } from './protocol.js';
import { openIjba, openIjbs } from './tables.js';
import { openYtf } from './ytf.js';

const protocols = new Map<string, (dir: string, places: ImagePlaces) => ProtocolSet>([
  ['ijba', openIjba],
  ['ijbb', (dir) => openIjb(dir, 'ijbb')],
  ['ijbc', (dir) => openIjb(dir, 'ijbc')],
  ['ijbs', openIjbs],
  ['tinyface', openTinyFace],
  ['megaface', openMegaFace],
  ['ytf', openYtf],
]);

export const protocolNames = [...protocols.keys()];

function openerOf(name: string) {
  const open = protocols.get(name);
  if (!open) throw new UserError(`--protocol: expected ${protocolNames.join(', ')}, got ${name}`);
  return open;
}

/** @throws UserError where there is no protocol of this name */
export const checkProtocol = (name: string): void => void openerOf(name);

/** Opens the metadata in `dir`; images given elsewhere are taken as they are, aligned. @throws UserError for what is missing or malformed */
export function openProtocol(name: string, dir: string, places: ImagePlaces = {}): ProtocolSet {
  const set = openerOf(name)(dir, places);
  checkTasks(set);
  return places.images === undefined ? set : { ...set, root: places.images, landmarks: null };
}
