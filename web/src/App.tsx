import { Route, Switch } from 'wouter';
import { Layout } from './components/Layout.tsx';
import { AccountPage } from './pages/AccountPage.tsx';
import { ClaimPage } from './pages/ClaimPage.tsx';
import { NotFoundPage } from './pages/NotFoundPage.tsx';
import { PricingPage } from './pages/PricingPage.tsx';
import { SuccessPage } from './pages/SuccessPage.tsx';

export function App() {
  return (
    <Layout>
      <Switch>
        <Route path="/" component={PricingPage} />
        <Route path="/pricing" component={PricingPage} />
        <Route path="/success" component={SuccessPage} />
        <Route path="/account" component={AccountPage} />
        <Route path="/claim" component={ClaimPage} />
        <Route component={NotFoundPage} />
      </Switch>
    </Layout>
  );
}
