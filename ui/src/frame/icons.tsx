// The page's own icons: 16 by 16, one stroke.
import type { ReactNode } from "react";

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.4"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

export const OverviewIcon = () => (
  <Icon>
    <path d="M2 2.5v11h12M5 10l2.6-3 2.2 1.8L13.5 4.5" />
  </Icon>
);
export const ServicesIcon = () => (
  <Icon>
    <rect x="2" y="2.5" width="12" height="4.5" rx="1.2" />
    <rect x="2" y="9" width="12" height="4.5" rx="1.2" />
    <path d="M4.5 4.75h.01M4.5 11.25h.01" />
  </Icon>
);
export const CallsIcon = () => (
  <Icon>
    <path d="M2.5 4h6M5 8h7M8.5 12h5" />
  </Icon>
);
export const FleetIcon = () => (
  <Icon>
    <circle cx="8" cy="3.5" r="1.7" />
    <circle cx="3.5" cy="12.5" r="1.7" />
    <circle cx="12.5" cy="12.5" r="1.7" />
    <path d="M8 5.2v3M8 8.2 4.5 11M8 8.2l3.5 2.8" />
  </Icon>
);
export const SettingsIcon = () => (
  <Icon>
    <circle cx="8" cy="8" r="2" />
    <path d="M8 1.8v2M8 12.2v2M1.8 8h2M12.2 8h2M3.6 3.6 5 5M11 11l1.4 1.4M12.4 3.6 11 5M5 11l-1.4 1.4" />
  </Icon>
);
export const PencilIcon = () => (
  <Icon>
    <path d="M10.8 2.8 13.2 5.2 5.6 12.8 2.6 13.4 3.2 10.4z" />
  </Icon>
);
export const LockIcon = () => (
  <Icon>
    <rect x="3.5" y="7" width="9" height="6.5" rx="1.2" />
    <path d="M5.5 7V5a2.5 2.5 0 0 1 5 0v2" />
  </Icon>
);
export const ThemeIcon = () => (
  <Icon>
    <circle cx="8" cy="8" r="5.5" />
    <path d="M8 2.5v11a5.5 5.5 0 0 0 0-11z" fill="currentColor" stroke="none" />
  </Icon>
);
export const Mark = () => (
  <svg viewBox="0 0 20 20" fill="none" stroke="currentColor" strokeLinecap="round" aria-hidden="true">
    <path d="M10 1.5v9" strokeWidth="1.8" />
    <circle cx="10" cy="13.5" r="3" strokeWidth="1.8" />
    <path d="M4.6 8.2a7.4 7.4 0 0 0 0 10.6M15.4 8.2a7.4 7.4 0 0 1 0 10.6" strokeWidth="1.2" opacity=".55" />
  </svg>
);
