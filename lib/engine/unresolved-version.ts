/** Of a child that is asked for by name: it is looked up, here and among the live workers, when the child is begun. */
export const UNRESOLVED_VERSION = 0;
