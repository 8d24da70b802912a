export type { DashboardRoles, OrchestrationDashboardOptions } from './dashboard-options.js';
export { OrchestrationDashboardModule } from './dashboard.module.js';
