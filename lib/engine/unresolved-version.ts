/** Of a name that this process does not register: it is looked up among the live workers when the child is begun. */
export const UNRESOLVED_VERSION = 0;
