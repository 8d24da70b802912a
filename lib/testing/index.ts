export { OrchestrationTestBed, type TestBedOptions } from './test-bed.js';
